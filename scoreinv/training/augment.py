"""Augmentation of training images: flips, small rotations, zoom, shifts, intensity.

The images may be finer than the network's grid: the transform is made on the fine grid and then
averaged down, so that interpolation does not teach the prior to blur.
"""

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scoreinv.spec import Spec


class Augmentation(Spec):
    """How strongly training images are varied; every draw is uniform in plus or minus the given number."""

    probability: float = Field(0.7, ge=0, le=1, description="Share of the images that are turned, zoomed and shifted.")
    can_flip: bool = Field(True, description="Left and right are exchanged in half of the images.")
    degrees: float = Field(10.0, ge=0, le=180)
    zoom: float = Field(0.12, ge=0, lt=1, description="Relative, in the logarithm.")
    shift: float = Field(0.06, ge=0, lt=1, description="Relative to the image's side.")
    gain: float = Field(0.0, ge=0, lt=1, description="Relative change of all values; 0 where values have a unit (CT).")
    gamma: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of contrast, in the logarithm: values to the power e^gamma; 0 where they have a unit.",
    )

    def apply(self, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Augmented images (batch, 1, size, size) of images whose side is a whole multiple of ``size``."""
        draws = (2 * torch.rand(len(images), 7, generator=generator) - 1).to(images.device)
        is_moved = (draws[:, 5] + 1) / 2 < self.probability
        if self.probability > 0:
            moved = F.grid_sample(images, self._grid(draws, images), mode="bilinear", align_corners=False)
            images = torch.where(is_moved.view(-1, 1, 1, 1), moved, images)
        if self.can_flip:
            coin = torch.rand(len(images), generator=generator).to(images.device) < 0.5
            images = torch.where(coin.view(-1, 1, 1, 1), images.flip(-1), images)
        if self.gamma > 0:
            images = images.clamp_min(0) ** torch.exp(self.gamma * draws[:, 6]).view(-1, 1, 1, 1)
        gain = 1 + self.gain * draws[:, 4].view(-1, 1, 1, 1)
        return F.avg_pool2d(images * gain, images.shape[-1] // size)

    def _grid(self, draws: Tensor, images: Tensor) -> Tensor:
        angle, zoom = draws[:, 0] * math.radians(self.degrees), torch.exp(draws[:, 1] * self.zoom)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        dx, dy = 2 * self.shift * draws[:, 2], 2 * self.shift * draws[:, 3]
        theta = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
        return F.affine_grid(theta, list(images.shape), align_corners=False)
