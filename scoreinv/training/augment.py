"""Augmentation of training images: flips, small rotations, zoom, shifts, intensity, contrast, skull stripping.

The images may be finer than the network's grid: the transform is made on the fine grid and then
averaged down, so that interpolation does not teach the prior to blur.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from scoreinv.spec import Spec
from scoreinv.training.device import sent

AIR = 0.1
"""Values below may be air; the scale of MRI images makes their bright tissue 1."""


class Augmentation(Spec):
    """How strongly training images are varied; every draw is uniform in plus or minus the given number."""

    probability: float = Field(0.7, ge=0, le=1, description="Share of the images that are turned, zoomed and shifted.")
    can_flip: bool = Field(True, description="Left and right are exchanged in half of the images.")
    degrees: float = Field(10.0, ge=0, le=180)
    zoom: float = Field(0.12, ge=0, lt=1, description="Relative, in the logarithm.")
    shift: float = Field(0.06, ge=0, lt=1, description="Relative to the image's side.")
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear",
        description="Of images that are moved; bilinear blurs those that are no finer than the network's grid.",
    )
    gain: float = Field(0.0, ge=0, lt=1, description="Relative change of all values; 0 where values have a unit (CT).")
    gamma: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of contrast, in the logarithm: values to the power e^gamma; 0 where they have a unit.",
    )
    remap: float = Field(
        0.0,
        ge=0,
        le=1,
        description="MRI: share of the images whose values go through a random curve, as between contrasts.",
    )
    strip: float = Field(
        0.0, ge=0, le=1, description="MRI: share of the images whose rim is set to 0, as skull stripping does."
    )

    def apply(self, images: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Augmented images (batch, n_channels, size, size) of images whose side is a whole multiple of ``size``."""
        draws = sent(2 * torch.rand(len(images), 7, generator=generator) - 1, images.device)
        is_moved = (draws[:, 5] + 1) / 2 < self.probability
        if self.probability > 0:
            moved = F.grid_sample(images, self._grid(draws, images), mode=self.interpolation, align_corners=False)
            images = torch.where(is_moved.view(-1, 1, 1, 1), moved, images)
        if self.can_flip:
            coin = sent(torch.rand(len(images), generator=generator), images.device) < 0.5
            images = torch.where(coin.view(-1, 1, 1, 1), images.flip(-1), images)
        images = _in_some(self.strip, _stripped, images, generator)
        images = _in_some(self.remap, _remapped, images, generator)
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


def _in_some(
    share: float, change: Callable[[Tensor, torch.Generator], Tensor], images: Tensor, generator: torch.Generator
) -> Tensor:
    """A share of the images changed, on the average; no draw if it is 0."""
    if share == 0:
        return images
    # Places, found on the CPU: a GPU would have to be waited for to count a mask.
    chosen = sent((torch.rand(len(images), generator=generator) < share).nonzero()[:, 0], images.device)
    return images.index_copy(0, chosen, change(images[chosen], generator))


def _remapped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Values through random piecewise linear curves from 0 (stays 0) over 1/3 and 2/3 to 1, constant from there on.

    The curves may fall, as from T1 to T2. Source: the nonlinear intensity transformation of Zhou et al. 2019 (Models
    Genesis, arXiv:1908.06912); here air keeps its value.
    """
    knots = sent(torch.rand(len(images), 3, generator=generator), images.device)
    rises = F.pad(knots, (1, 0)).diff(dim=1).unbind(1)
    place = 3 * images.clamp(0, 1)
    parts = [rise.view(-1, 1, 1, 1) * (place - i).clamp(0, 1) for i, rise in enumerate(rises)]
    return torch.stack(parts).sum(0)


def _stripped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images without a rim of random depth: up to about 1/16 of the side, scalp and skull of a head that fills it.

    The object is what has something brighter than air on all four sides, blurred by three box filters; a threshold
    above one half then lies inside its edge.
    """
    side = images.shape[-1]
    factor = max(side // 64, 1)
    objects = _filled(F.avg_pool2d(images, factor) > AIR).to(images)
    for _ in range(3):
        objects = F.avg_pool2d(objects, 5, stride=1, padding=2)
    objects = F.interpolate(objects, size=side, mode="bilinear", align_corners=False)
    depth = 0.5 + 0.48 * sent(torch.rand(len(images), 1, 1, 1, generator=generator), images.device)
    return images * (objects > depth)


def _filled(is_object: Tensor) -> Tensor:
    """Pixels between others of the object, along rows and along columns."""
    sides = [is_object.long().flip(dims).cummax(axis).values.flip(dims) for axis in (2, 3) for dims in ((), (axis,))]
    return torch.stack(sides).amin(0) > 0
