"""What a prior loses on images of other sizes: denoising error on what images of all sizes show.

    python benchmarks/sizes.py ct-128 workspace/datasets/DIGEST_128 workspace/datasets/DIGEST_160 ...

The data sets hold the same slices, ingested at the prior's pixel size and at different sizes, of which the first is
what the others are compared with. A smaller image is the middle of a larger one, and its noise is the middle of that
one's noise, so that errors differ by what the network makes of the size alone. Each row compares one size with the
first on the part that both show; less than 0 % is better than at the first size. A second row says what would come
out if the position channels went from -1 to 1 at every size.
"""

import argparse

import torch
from torch import Tensor

from scoreinv.denoiser import Denoiser
from storage.datasets import DatasetStore
from tasks.workers.priors import load_prior

SIGMAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def main() -> None:
    """Print one row for each size after the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", help="a shipped one by name, or the folder of a published one")
    parser.add_argument("dataset", nargs="+", help="finished data sets, the prior's own size first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, contract = load_prior(options.prior, "cpu", "float32")
    images = [images_of(uri) for uri in options.dataset]
    print("| size | " + " | ".join(f"sigma {sigma:g}" for sigma in SIGMAS) + " | mean |")
    print("| --- |" + " ---: |" * (len(SIGMAS) + 1))
    noise = torch.randn(max(images, key=Tensor.numel).shape, generator=torch.Generator().manual_seed(0))
    first = errors_of(model, images[0], noise)
    for other in images[1:]:
        side = min(other.shape[-1], images[0].shape[-1])
        for name, size in (("", contract.image.size), (", positions in image halves", None)):
            model.size = size
            change = rms(errors_of(model, other, noise), side).log() - rms(first, side).log()
            cells = [f"{100 * (float(one.exp()) - 1):+.1f} %" for one in (*change, change.mean())]
            print(f"| {other.shape[-1]}{name} | {' | '.join(cells)} |", flush=True)


def images_of(uri: str) -> Tensor:
    """All images of a data set, (n, 1, size, size)."""
    store = DatasetStore.open(uri)
    return torch.from_numpy(store.images(0, len(store)))[:, None]


@torch.no_grad()
def errors_of(model: Denoiser, images: Tensor, noise: Tensor) -> Tensor:
    """Differences of denoised images from true ones, (n_levels, n, 1, size, size)."""
    normal = middle(noise, images.shape[-1])
    levels = torch.tensor(SIGMAS)
    return torch.stack(
        [
            torch.cat([model(x[None] + s * n[None], s[None]) - x[None] for x, n in zip(images, normal, strict=True)])
            for s in levels
        ]
    )


def rms(errors: Tensor, side: int) -> Tensor:
    """Root mean square over the middles of all images, (n_levels,)."""
    return middle(errors, side).square().flatten(1).mean(1).sqrt()


def middle(images: Tensor, side: int) -> Tensor:
    """The squares (..., side, side) in the middle of images."""
    start = (images.shape[-1] - side) // 2
    return images[..., start : start + side, start : start + side]


if __name__ == "__main__":
    main()
