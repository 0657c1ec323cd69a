"""Training images in memory: balanced draws over sources and subjects, with augmentation."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.training.augment import Augmentation


class ImageBatches:
    """Random batches of images; the same draws for the same generator.

    Args:
        images: (n, 1, side, side), the side a whole multiple of ``size``.
        size: side of the images that are given out.
        weights: relative chance of each image, (n,).
        augmentation: how images are varied.
        device: where the batches are used.
    """

    def __init__(
        self, images: Tensor, size: int, *, weights: Tensor, augmentation: Augmentation, device: torch.device
    ) -> None:
        if len(weights) != len(images):
            raise ValueError(f"{len(images)} images came with {len(weights)} weights: give one for each")
        if images.shape[-1] != images.shape[-2] or images.shape[-1] % size:
            raise UserError(
                f"images of {tuple(images.shape[-2:])} pixels are no whole multiple of {size}: resample them"
            )
        self.images = images
        self.size = size
        self.weights = weights
        self.augmentation = augmentation
        self.device = device

    def __call__(self, n: int, generator: torch.Generator) -> Tensor:
        """n images (n, 1, size, size)."""
        index = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        return self.augmentation.apply(self.images[index].to(self.device), self.size, generator)


def balanced_weights(groups: Sequence[str], *, power: float = 0.5) -> Tensor:
    """Chance of each image, summing to 1, when a group of n images is drawn n^power times as often as one of 1.

    Args:
        groups: the subject of each image.
        power: 1 draws all images alike, 0 draws all groups alike.
    """
    counts = Counter(groups)
    weights = torch.tensor([counts[group] ** (power - 1) for group in groups], dtype=torch.float64)
    return weights / weights.sum()
