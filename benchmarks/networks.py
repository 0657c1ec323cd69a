"""Which small network learns fastest on a CPU: denoising error against CPU time, everything else alike.

    python benchmarks/networks.py workspace/datasets/DIGEST --minutes 3.4 --only "full resolution, 24 x (1, 2, 3, 4)"
    python benchmarks/networks.py workspace/datasets/DIGEST --minutes 4 --held-out A056642 KiTS-00072 \
        --only "half resolution, 32 x (1, 2, 3, 4)" "the same on crops of 128"

Every candidate trains on the same images with the same seed on one thread, and is measured on whole images of
held-out subjects by the geometric mean of its denoising errors at noise levels 0.01 to 10.

Candidates on crops see random squares of the images and are told their place. A step has as many crops as images
(--batch-size), so that they make more steps in their time.
"""

import argparse
import time
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.unet import UNet
from scoreinv.training.augment import Augmentation
from scoreinv.training.checkpoint import build_model, load_weights
from scoreinv.training.data import Batches, ImageBatches, balanced_weights
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.loss import denoising_curve
from scoreinv.training.objectives import MODEL, Denoising
from storage.datasets import DatasetStore
from storage.models import load


class Candidate(NamedTuple):
    """A network, and the shares of the time that it spends on crops of which side (0: whole images)."""

    network: UNet
    phases: tuple[tuple[int, float], ...] = ((0, 1.0),)


HALF = UNet(patch=2, n_features=32, channel_multipliers=(1, 2, 3, 4), n_blocks=1)
FULL = UNet(patch=1, n_features=24, channel_multipliers=(1, 2, 3, 4), n_blocks=1)
CANDIDATES = {
    "half resolution, 64 x (1, 2, 2)": Candidate(UNet(patch=2, n_features=64, channel_multipliers=(1, 2, 2))),
    "half resolution, 32 x (1, 2, 4)": Candidate(UNet(patch=2, n_features=32, channel_multipliers=(1, 2, 4))),
    "half resolution, 32 x (1, 2, 3, 4)": Candidate(HALF),
    "the same on crops of 192": Candidate(HALF, ((192, 1.0),)),
    "the same on crops of 128": Candidate(HALF, ((128, 1.0),)),
    "the same on crops of 128, then on whole images": Candidate(HALF, ((128, 0.5), (0, 0.5))),
    "quarter resolution, 96 x (1, 2)": Candidate(UNet(patch=4, n_features=96, channel_multipliers=(1, 2))),
    "full resolution, 24 x (1, 2, 3, 4)": Candidate(FULL),
    "full resolution on crops of 64": Candidate(FULL, ((64, 1.0),)),
}
SIGMAS = torch.tensor([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
N_HELD_OUT = 48
WARMUP_STEPS = 25
"""A short one: the candidates have minutes."""


def main() -> None:
    """Print one row per candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a finished data set")
    parser.add_argument("--minutes", type=float, default=3.4, help="CPU time per candidate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--initial", default="", help="a prior whose weights a network of its shape goes on from")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--held-out", nargs="*", default=[], help="subjects (default: every eighth, by a hash)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = " | ".join(f"{sigma:g}" for sigma in SIGMAS.tolist())
    print(f"| network | parameters | images seen | error | {names} |")
    print("| --- | ---: | ---: | ---: |" + " ---: |" * len(SIGMAS))
    for name in options.only:
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> None:
    """Train for so many minutes of CPU time, and print the geometric mean of the errors, and each of them."""
    candidate, image = CANDIDATES[name], DatasetStore.open(options.dataset).contract
    batches, held_out, std = images_of(options.dataset, options.held_out)
    model = build_model(candidate.network, EDMPreconditioning(mean=0.13, sigma_data=std), size=image.size)
    if options.initial:
        load_weights(model, load(options.initial)[0]).requires_grad_(True)
    state, n_seen = TrainState.fresh({MODEL: model}, TrainSpec()), 0.0
    levels = LogNormalLevels(mean=-1.8, std=1.4, sigma_min=0.005, sigma_data=std)
    for crop, share in candidate.phases:
        per_image = (image.size / crop) ** 2 if crop else 1.0
        warmup = WARMUP_STEPS * options.batch_size
        spec = TrainSpec(batch_size=options.batch_size, learning_rate=options.rate, warmup_images=warmup)
        objective = Denoising(levels=levels, crop=crop)
        seen = learn(state, objective.batches(batches, image), objective, spec, 60 * options.minutes * share)
        n_seen += seen / per_image
    errors = denoising_curve(state.ema.model, held_out, SIGMAS)
    row = [f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M", f"{n_seen:.0f}"]
    row += [f"{float(error):.4f}" for error in (errors.log().mean().exp(), *errors)]
    print(f"| {name} | {' | '.join(row)} |", flush=True)


def learn(state: TrainState, batches: Batches, objective: Denoising, spec: TrainSpec, seconds: float) -> int:
    """Train for so many seconds of CPU time; how many images or crops were seen."""
    begun, start = state.images_seen, time.process_time()
    for _ in train(state, batches, objective, spec):
        if time.process_time() - start > seconds:
            break
    return state.images_seen - begun


def images_of(uri: str, held_out_subjects: Sequence[str]) -> tuple[ImageBatches, Tensor, float]:
    """Training batches, images of the subjects held out or of every eighth, and the deviation of all values."""
    store = DatasetStore.open(uri)
    read = store.fine_images if store.fine_factor > 1 else store.images
    images = torch.from_numpy(read(0, len(store)))[:, None]
    subjects = [record.subject_id for record in store.records]
    outside = held_out_subjects or {subject for subject in subjects if zlib.crc32(subject.encode()) % 8 == 0}
    is_out = torch.tensor([subject in outside for subject in subjects])
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
