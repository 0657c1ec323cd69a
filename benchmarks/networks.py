"""Which small network learns fastest on a CPU: denoising error against CPU time, everything else alike.

    python benchmarks/networks.py workspace/datasets/DIGEST --minutes 3.4

Every candidate trains on the same images with the same seed on one thread, and is measured on held-out
subjects by the geometric mean of its denoising errors at noise levels 0.01 to 10.
"""

import argparse
import time
import zlib

import torch
from torch.nn import functional as F

from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.unet import UNet
from scoreinv.training.augment import Augmentation
from scoreinv.training.checkpoint import build_model
from scoreinv.training.data import ImageBatches, balanced_weights
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.loss import denoising_curve
from storage.datasets import DatasetStore

CANDIDATES = {
    "half resolution, 64 x (1, 2, 2)": UNet(patch=2, n_features=64, channel_multipliers=(1, 2, 2), n_blocks=1),
    "half resolution, 32 x (1, 2, 4)": UNet(patch=2, n_features=32, channel_multipliers=(1, 2, 4), n_blocks=1),
    "half resolution, 32 x (1, 2, 3, 4)": UNet(patch=2, n_features=32, channel_multipliers=(1, 2, 3, 4), n_blocks=1),
    "quarter resolution, 96 x (1, 2)": UNet(patch=4, n_features=96, channel_multipliers=(1, 2), n_blocks=1),
    "full resolution, 24 x (1, 2, 3, 4)": UNet(patch=1, n_features=24, channel_multipliers=(1, 2, 3, 4), n_blocks=1),
}
SIGMAS = torch.tensor([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
N_HELD_OUT = 48


def main() -> None:
    """Print one row per candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a finished data set")
    parser.add_argument("--minutes", type=float, default=3.4, help="CPU time per candidate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | parameters | images seen | denoising error |\n| --- | ---: | ---: | ---: |")
    for name, network in CANDIDATES.items():
        n_parameters, seen, error = measure(network, options.dataset, options.minutes, options.batch_size)
        print(f"| {name} | {n_parameters / 1e6:.2f} M | {seen} | {error:.4f} |", flush=True)


def measure(network: UNet, dataset: str, minutes: float, batch_size: int) -> tuple[int, int, float]:
    """Parameters, images seen and the geometric mean of the denoising errors after so many minutes of CPU time."""
    batches, held_out, std = images_of(dataset)
    levels = LogNormalLevels(mean=-1.8, std=1.4, sigma_min=0.005, sigma_data=std)
    spec = TrainSpec(batch_size=batch_size, learning_rate=1e-3, warmup_images=1000, levels=levels)
    model = build_model(network, EDMPreconditioning(mean=0.13, sigma_data=std))
    state = TrainState.fresh(model, spec)
    start = time.process_time()
    for _ in train(state, batches, spec):
        if time.process_time() - start > 60 * minutes:
            break
    state.ema.model.autocast_dtype = torch.bfloat16
    error = float(denoising_curve(state.ema.model, held_out, SIGMAS).log().mean().exp())
    return sum(p.numel() for p in model.parameters()), state.images_seen, error


def images_of(uri: str) -> tuple[ImageBatches, torch.Tensor, float]:
    """Training batches, held-out images of every eighth subject, and the standard deviation of all values."""
    store = DatasetStore.open(uri)
    read = store.fine_images if store.fine_factor > 1 else store.images
    images = torch.from_numpy(read(0, len(store)))[:, None]
    subjects = [record.subject_id for record in store.records]
    is_out = torch.tensor([zlib.crc32(subject.encode()) % 8 == 0 for subject in subjects])
    kept = [subject for subject, out in zip(subjects, is_out.tolist(), strict=True) if not out]
    batches = ImageBatches(
        images[~is_out],
        store.contract.size,
        weights=balanced_weights(kept),
        augmentation=Augmentation(),
        device=torch.device("cpu"),
    )
    held_out = F.avg_pool2d(images[is_out], images.shape[-1] // store.contract.size)
    chosen = torch.linspace(0, len(held_out) - 1, min(N_HELD_OUT, len(held_out))).long()
    return batches, held_out[chosen], float(images.std())


if __name__ == "__main__":
    main()
