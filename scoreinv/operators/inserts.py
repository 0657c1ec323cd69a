"""Pieces of metal that a simulation puts into slices: ellipses, exact in images and in sinograms.

One or two of one kind lie in each slice, in bone if there is some, so deep that they do not stick out of the body;
where there is no room, fewer. They are drawn from the stream of the slice alone.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from scoreinv.contract import ImageContract
from scoreinv.noise import Noise
from scoreinv.phantoms import Ellipse
from scoreinv.xrays import Material

KindName = Literal["hip_head", "rod", "screw", "filling"]


class Kind(NamedTuple):
    """Of what such pieces are, half their width in mm, and how many times longer than wide: the least and the most."""

    materials: tuple[Material, ...]
    half_mm: tuple[float, float]
    slenderness: tuple[float, float]


KINDS: Mapping[KindName, Kind] = {
    "hip_head": Kind(("cobalt_chrome", "steel", "titanium"), (11.0, 16.0), (1.0, 1.1)),
    "rod": Kind(("titanium", "cobalt_chrome", "steel"), (2.5, 3.5), (1.0, 1.5)),
    "screw": Kind(("titanium", "steel"), (2.0, 3.5), (5.0, 9.0)),
    "filling": Kind(("gold", "amalgam"), (2.0, 4.0), (1.0, 1.6)),
}

BODY_HU = -500.0
"""Values above are of the body, but for lungs."""

BONE_HU = 500.0
"""Above the blood of vessels with contrast agent."""

N_DRAWS = 11
"""Of a slice: what it is, of which material, one or two; and of each piece its size, length, turn and place."""


class Inserts(NamedTuple):
    """The metal of one slice; lengths of the ellipses are in halves of the image's side, as in ``phantoms``."""

    material: Material
    pieces: tuple[Ellipse, ...]


def draw_inserts(images: Tensor, image: ImageContract, noise: Noise, *, kinds: tuple[KindName, ...]) -> list[Inserts]:
    """What is put into each of the images (batch, 1, height, width), which may be finer by a whole factor.

    Args:
        images: CT, without metal.
        image: their contract.
        noise: the streams of the slices, for contexts.
        kinds: to draw from.
    """
    hu = image.low + avg_pool2d(images, images.shape[-1] // image.size) * (image.high - image.low)
    uniform = torch.special.ndtr(noise.normal((N_DRAWS,)).double())
    return [_inserts(one[0].cpu(), image, draws.tolist(), kinds) for one, draws in zip(hu, uniform, strict=True)]


def _inserts(hu: Tensor, image: ImageContract, draws: list[float], kinds: tuple[KindName, ...]) -> Inserts:
    kind = KINDS[kinds[_choice(draws[0], len(kinds))]]
    material = kind.materials[_choice(draws[1], len(kind.materials))]
    return Inserts(material, tuple(_pieces(hu, image.pixel_mm, kind, 1 + (draws[2] > 0.5), draws[3:])))


def _pieces(hu: Tensor, pixel_mm: float, kind: Kind, n: int, draws: list[float]) -> Iterator[Ellipse]:
    side_mm, free = len(hu) * pixel_mm, torch.ones_like(hu, dtype=torch.bool)
    for size, length, turn, place in (draws[:4], draws[4:8])[:n]:
        short = _between(kind.half_mm, size)
        long = short * _between(kind.slenderness, length)
        found = _places(hu, free, n_pixels=math.ceil(long / pixel_mm))
        if not len(found):
            return
        row, column = found[_choice(place, len(found))].tolist()
        x, y = ((2 * at + 1) / len(hu) - 1 for at in (column, len(hu) - 1 - row))
        yield Ellipse(1.0, 2 * long / side_mm, 2 * short / side_mm, x, y, turn * math.pi)
        # The next one, at least as far from this one's centre as both are long, does not touch it.
        reach = 2 * kind.half_mm[1] * kind.slenderness[1] / pixel_mm
        rows = torch.arange(len(hu))
        free &= (rows[:, None] - row) ** 2 + (rows - column) ** 2 > reach**2


def _places(hu: Tensor, free: Tensor, *, n_pixels: int) -> Tensor:
    """Rows and columns (n, 2) for a piece that reaches ``n_pixels`` far: in bone within the body, or else in there."""
    body = hu > BODY_HU
    outside = max_pool2d((~body).float()[None], 2 * n_pixels + 1, stride=1, padding=n_pixels)[0] > 0
    inner = body & ~outside & free
    bone = (inner & (hu > BONE_HU)).nonzero()
    return bone if len(bone) else inner.nonzero()


def _choice(draw: float, n: int) -> int:
    return min(int(draw * n), n - 1)


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + draw * (bounds[1] - bounds[0])
