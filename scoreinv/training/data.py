"""Training images: balanced draws over sources and subjects, with augmentation; and problems measured of them."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from scoreinv.band import low_band
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import MeasurementSpec, simulate
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem
from scoreinv.spec import MAX_SEED
from scoreinv.training.augment import Augmentation
from scoreinv.training.device import sent
from scoreinv.training.integers import Integers

Batch = Tensor | tuple[InverseProblem | Tensor, Tensor]
"""Images (batch, n_channels, height, width), alone or after what they belong to: the problem that they solve, or, of
crops, their places (batch, 2)."""

Batches = Callable[[int, torch.Generator], Batch]
"""(batch size, generator) -> a batch, the same for the same state of the generator."""


class ImageBatches:
    """Random batches of images; the same draws for the same generator.

    Args:
        images: (n, n_channels, side, side), the side a whole multiple of ``size``; in memory, in a file that is mapped
            into memory, or on the device, there perhaps as integers.
        size: side of the images that are given out.
        weights: relative chance of each image, (n,).
        augmentation: how images are varied.
        device: where the batches are used.
        band: give out the low frequencies alone, as images of so many pixels a side; 0: all.
    """

    def __init__(
        self,
        images: Tensor | Integers,
        size: int,
        *,
        weights: Tensor,
        augmentation: Augmentation,
        device: torch.device,
        band: int = 0,
    ) -> None:
        n, *_, height, width = (images if isinstance(images, Tensor) else images.values).shape
        if len(weights) != n:
            raise ValueError(f"{n} images came with {len(weights)} weights: give one for each")
        if height != width or width % size:
            raise UserError(f"images of {(height, width)} pixels are no whole multiple of {size}: resample them")
        self.images = images
        self.size = size
        self.weights = weights
        self.augmentation = augmentation
        self.device = device
        self.band = band

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """n images (n, n_channels, size, size), or of the band's size."""
        places = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        images = self.augmentation.apply(self._images(places).to(self.device), self.size, generator)
        return low_band(images, self.band) if self.band else images

    def _images(self, places: Tensor) -> Tensor:
        """The images in some places, where they are kept."""
        if isinstance(self.images, Integers):
            return self.images.images(sent(places, self.images.values.device))
        return self.images[sent(places, self.images.device)]


class MeasuredBatches:
    """Problems and the images that solve them: images of other batches, measured anew each time.

    Args:
        images: batches of images; they may be finer than the contract's by a whole factor.
        measurement: what is measured of them, with which noise.
        contract: of the images that solve the problems.
    """

    def __init__(self, images: Batches, measurement: MeasurementSpec, contract: ImageContract) -> None:
        self.images = images
        self.measurement = measurement
        self.contract = contract

    def __call__(self, n: int, generator: torch.Generator) -> tuple[InverseProblem, Tensor]:
        """n images (n, n_channels, size, size) and their problem; the noise follows from the generator."""
        batch = self.images(n, generator)
        images = batch if isinstance(batch, Tensor) else batch[1]
        seed = int(torch.randint(MAX_SEED, (), generator=generator))
        return measured(images, self.measurement, self.contract, Noise(seed, [str(place) for place in range(n)]))


def measured(
    images: Tensor, measurement: MeasurementSpec, contract: ImageContract, noise: Noise
) -> tuple[InverseProblem, Tensor]:
    """The problem that is measured of images, which may be finer by a whole factor, and the images that solve it."""
    problem = InverseProblem.of(measurement, simulate(measurement, images, contract, noise), contract)
    return problem, F.avg_pool2d(images, images.shape[-1] // contract.size)


def balanced_weights(groups: Sequence[str], *, power: float = 0.5) -> Tensor:
    """Chance of each image, summing to 1, when a group of n images is drawn n^power times as often as one of 1.

    Args:
        groups: the subject of each image.
        power: 1 draws all images alike, 0 draws all groups alike.
    """
    counts = Counter(groups)
    weights = torch.tensor([counts[group] ** (power - 1) for group in groups], dtype=torch.float64)
    return weights / weights.sum()
