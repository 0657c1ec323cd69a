"""One of two processes that train together; run by test_distributed.py.   python two_ranks.py RANK N FOLDER"""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.patch_discriminator import PatchDiscriminator
from scoreinv.nets.unet import UNet
from scoreinv.operators.mri import CartesianMRI
from scoreinv.training.checkpoint import build_model, build_models
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import MODEL, Adversarial, Denoising, Supervised

NETWORK = UNet(patch=1, n_features=8, channel_multipliers=(1, 2), n_blocks=1, has_position=True)
SPEC = TrainSpec(n_images=24, batch_size=8, warmup_images=0, learning_rate=1e-3, is_bfloat16=False)


def fresh() -> TrainState:
    """The state both processes start from."""
    return TrainState.fresh({MODEL: build_model(NETWORK, EDMPreconditioning(sigma_data=0.3))}, SPEC)


IMAGE = ImageContract(modality="mri", size=8, pixel_mm=1.0, low=0, high=1)
ADVERSARIAL = Adversarial(
    supervised=Supervised(measurement=CartesianMRI(acceleration=2)), judge=PatchDiscriminator(n_features=8, n_layers=1)
)


def fresh_pair() -> TrainState:
    """The state of a network and a discriminator."""
    return TrainState.fresh(build_models(ADVERSARIAL, NETWORK, IMAGE), SPEC)


def draw(n: int, generator: torch.Generator) -> Tensor:
    """Images of 8 x 8 pixels."""
    return torch.rand(n, 1, 8, 8, generator=generator)


def main(rank: int, n_ranks: int, folder: Path) -> None:
    """Train, and save what this process has in the end."""
    torch.set_num_threads(1)
    timeout = timedelta(seconds=120)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=n_ranks, timeout=timeout)
    state = fresh()
    steps = list(train(state, draw, Denoising(), SPEC, rank=rank, n_ranks=n_ranks))
    result = {
        "losses": [float(step.loss) for step in steps],
        "norms": [float(step.gradient_norm) for step in steps],
        "model": state.model.state_dict(),
        "ema": state.ema.model.state_dict(),
    }
    pair = fresh_pair()
    for _ in train(pair, ADVERSARIAL.batches(draw, IMAGE), ADVERSARIAL, SPEC, rank=rank, n_ranks=n_ranks, n_at_once=3):
        pass
    result |= {name: model.state_dict() for name, model in pair.models.items() if name != MODEL}
    result["reconstructor"] = pair.model.state_dict()
    torch.save(result, folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
