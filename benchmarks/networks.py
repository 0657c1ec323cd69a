"""Which small network learns fastest on a CPU: denoising error against CPU time, everything else alike.

    python benchmarks/networks.py workspace/datasets/DIGEST --minutes 3.4
    python benchmarks/networks.py workspace/datasets/DIGEST --minutes 6 --initial ct-128 --rate 2e-4 \
        --only "full resolution, 24 x (1, 2, 3, 4)" "the same on patches of 64" --held-out A056642 KiTS-00072

Every candidate trains on the same images with the same seed on one thread, and is measured on held-out
subjects by the geometric mean of its denoising errors at noise levels 0.01 to 10.

Candidates on patches (PaDIS; Hu et al. 2024, arXiv:2406.02462) see random squares of the images and their place, as
many pixels a step as the others. They denoise a held-out image by the patches of four shifted grids, whose mean is
taken; an image is surrounded by zeros for that. A network of the same shape also denoises it as a whole.
"""

import argparse
import itertools
import time
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoreinv.denoiser import Denoiser, EDMPreconditioning, ScoreModel
from scoreinv.nets.unet import UNet, UNetNetwork, position_of
from scoreinv.training.augment import Augmentation
from scoreinv.training.checkpoint import build_model, load_weights
from scoreinv.training.data import ImageBatches, balanced_weights
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.loss import denoising_curve
from storage.datasets import DatasetStore
from storage.models import load

FULL = UNet(patch=1, n_features=24, channel_multipliers=(1, 2, 3, 4), n_blocks=1)
CANDIDATES: dict[str, tuple[UNet, int]] = {
    "half resolution, 64 x (1, 2, 2)": (UNet(patch=2, n_features=64, channel_multipliers=(1, 2, 2), n_blocks=1), 0),
    "half resolution, 32 x (1, 2, 4)": (UNet(patch=2, n_features=32, channel_multipliers=(1, 2, 4), n_blocks=1), 0),
    "half resolution, 32 x (1, 2, 3, 4)": (
        UNet(patch=2, n_features=32, channel_multipliers=(1, 2, 3, 4), n_blocks=1),
        0,
    ),
    "quarter resolution, 96 x (1, 2)": (UNet(patch=4, n_features=96, channel_multipliers=(1, 2), n_blocks=1), 0),
    "full resolution, 24 x (1, 2, 3, 4)": (FULL, 0),
    "the same on patches of 64": (FULL, 64),
    "the same on patches of 32": (FULL, 32),
}
"""The network and the side of the patches it sees; 0: whole images."""
SIGMAS = torch.tensor([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
N_HELD_OUT = 48


def main() -> None:
    """Print one row per candidate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a finished data set")
    parser.add_argument("--minutes", type=float, default=3.4, help="CPU time per candidate (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate (default: %(default)s)")
    parser.add_argument("--initial", default="", help="a prior whose weights the full resolution goes on from")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES), metavar="NAME")
    parser.add_argument("--held-out", nargs="*", default=[], help="subjects (default: every eighth, by a hash)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | denoises | parameters | images seen | denoising error |\n| --- | --- | ---: | ---: | ---: |")
    for name in options.only:
        measure(name, options)


def measure(name: str, options: argparse.Namespace) -> None:
    """Train for so many minutes of CPU time, and print the geometric mean of the errors of each way to denoise."""
    network, patch = CANDIDATES[name]
    batches, held_out, std = images_of(options.dataset, options.held_out)
    levels = LogNormalLevels(mean=-1.8, std=1.4, sigma_min=0.005, sigma_data=std)
    per_image = (batches.size // patch) ** 2 if patch else 1
    spec = TrainSpec(
        batch_size=options.batch_size * per_image,
        learning_rate=options.rate,
        warmup_images=1000 * per_image,
        ema_half_life=TrainSpec().ema_half_life * per_image,
        levels=levels,
    )
    model = build_model(network, EDMPreconditioning(mean=0.13, sigma_data=std))
    if options.initial:
        load_weights(model, load(options.initial)[0]).requires_grad_(True)
    if patch:
        model.network = PatchNetwork(model.network)
    state = TrainState.fresh(model, spec)
    start = time.process_time()
    for _ in train(state, PatchBatches(batches, model.network, patch) if patch else batches, spec):
        if time.process_time() - start > 60 * options.minutes:
            break
    average = state.ema.model
    average.autocast_dtype = torch.bfloat16
    ways: dict[str, Denoiser] = {"patches": by_patches(average, patch)} if patch else {}
    ways["whole images"] = average
    for way, denoiser in ways.items():
        error = float(denoising_curve(denoiser, held_out, SIGMAS).log().mean().exp())
        n_parameters = sum(p.numel() for p in model.parameters())
        seen = state.images_seen // per_image
        print(f"| {name} | {way} | {n_parameters / 1e6:.2f} M | {seen} | {error:.4f} |", flush=True)


class PatchNetwork(nn.Module):
    """A network that is told the position channels of the patches it sees; without them it sees whole images."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        assert isinstance(inner, UNetNetwork)
        self.inner = inner
        self.positions: Tensor | None = None

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        positions = position_of(x) if self.positions is None else self.positions
        return self.inner.with_channels(torch.cat([x, positions.to(x)], 1), label)


class PatchBatches:
    """Random patches of the images of other batches, as many pixels as each image has; tells the network where."""

    def __init__(self, batches: ImageBatches, network: nn.Module, patch: int) -> None:
        assert isinstance(network, PatchNetwork)
        self.batches, self.network, self.patch = batches, network, patch

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """n patches (n, 1, patch, patch)."""
        per_image, margin = (self.batches.size // self.patch) ** 2, self.patch // 2
        images = self.batches(n // per_image, generator)
        padded = torch.cat([F.pad(images, [margin] * 4), positions_around(images, margin)], 1)
        corners = torch.randint(padded.shape[-1] - self.patch + 1, (n, 2), generator=generator).tolist()
        patches = [
            padded[i // per_image, :, row : row + self.patch, column : column + self.patch]
            for i, (row, column) in enumerate(corners)
        ]
        stacked = torch.stack(patches)
        self.network.positions = stacked[:, 1:]
        return stacked[:, :1]


def positions_around(images: Tensor, margin: int) -> Tensor:
    """The position channels of images (batch, 1, side, side), continued into a margin of zeros on all sides."""
    side = images.shape[-1]
    scale = (side + 2 * margin - 1) / (side - 1)
    return scale * position_of(F.pad(images, [margin] * 4))


def by_patches(model: ScoreModel, patch: int) -> Denoiser:
    """Images denoised by the patches of four shifted grids, their mean."""
    network = model.network
    assert isinstance(network, PatchNetwork)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        margin, side = patch // 2, x.shape[-1]
        # The margin holds noise, as it did in training.
        noise = torch.randn(len(x), 1, side + patch, side + patch, generator=torch.Generator().manual_seed(1))
        padded = sigma.view(-1, 1, 1, 1) * noise.to(x)
        padded[..., margin:-margin, margin:-margin] = x
        both = torch.cat([padded, positions_around(x, margin)], 1)
        total = torch.zeros_like(x)
        for row, column in itertools.product((0, margin), repeat=2):
            # Half a patch further on, the grid begins and ends with the image.
            tiles = both[..., row : side + patch - row, column : side + patch - column]
            tiles = tiles.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5)
            n, n_rows, n_columns = tiles.shape[:3]
            tiles = tiles.flatten(0, 2)
            network.positions = tiles[:, 1:]
            denoised = model(tiles[:, :1], sigma.repeat_interleave(n_rows * n_columns))
            denoised = denoised.view(n, n_rows, n_columns, patch, patch).transpose(2, 3)
            denoised = denoised.reshape(n, 1, n_rows * patch, n_columns * patch)
            total += denoised[..., margin - row :, margin - column :][..., :side, :side]
        network.positions = None
        return total / 4

    return denoise


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
