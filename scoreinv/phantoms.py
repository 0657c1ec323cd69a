"""Phantoms made of ellipses, as images and as exact sinograms; numpy alone.

An image covers the square from -1 to 1, x to the right and y upwards. The projection of an ellipse with
half axes a, b (turned by phi, centred at t0 on the detector) at the angle theta is, with
s^2 = a^2 cos^2(theta - phi) + b^2 sin^2(theta - phi),

    p(t) = 2 a b sqrt(s^2 - (t - t0)^2) / s^2    for |t - t0| < s.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Ellipse(NamedTuple):
    """An ellipse that adds ``value`` inside; lengths in halves of the image's side, the turn in radians."""

    value: float
    half_width: float
    half_height: float
    x: float = 0.0
    y: float = 0.0
    turn: float = 0.0


SHEPP_LOGAN = (
    Ellipse(1.0, 0.69, 0.92),
    Ellipse(-0.8, 0.6624, 0.874, 0.0, -0.0184),
    Ellipse(-0.2, 0.11, 0.31, 0.22, 0.0, math.radians(-18)),
    Ellipse(-0.2, 0.16, 0.41, -0.22, 0.0, math.radians(18)),
    Ellipse(0.1, 0.21, 0.25, 0.0, 0.35),
    Ellipse(0.1, 0.046, 0.046, 0.0, 0.1),
    Ellipse(0.1, 0.046, 0.046, 0.0, -0.1),
    Ellipse(0.1, 0.046, 0.023, -0.08, -0.605),
    Ellipse(0.1, 0.023, 0.023, 0.0, -0.606),
    Ellipse(0.1, 0.023, 0.046, 0.06, -0.605),
)
"""The head of Shepp and Logan (1974) with the raised contrast of Toft (1996); values from 0 to 1."""


def shepp_logan(size: int) -> Array:
    """The head phantom (size, size), float32, values from 0 to 1."""
    return rasterise(SHEPP_LOGAN, size)


def disc(radius: float, *, x: float = 0.0, y: float = 0.0, value: float = 1.0) -> Ellipse:
    """A disc; its radius in halves of the image's side."""
    return Ellipse(value, radius, radius, x, y)


def varied_head(generator: np.random.Generator) -> tuple[Ellipse, ...]:
    """A head whose inner ellipses are moved, stretched and turned at random; values stay from 0 to 1."""
    skull, brain, *inner = SHEPP_LOGAN
    return (skull, brain, *(_varied(ellipse, generator) for ellipse in inner))


def _varied(ellipse: Ellipse, generator: np.random.Generator) -> Ellipse:
    stretch, shift = generator.uniform(0.7, 1.1, 2), generator.uniform(-0.06, 0.06, 2)
    return ellipse._replace(
        half_width=ellipse.half_width * float(stretch[0]),
        half_height=ellipse.half_height * float(stretch[1]),
        x=ellipse.x + float(shift[0]),
        y=ellipse.y + float(shift[1]),
        turn=ellipse.turn + float(generator.uniform(-0.3, 0.3)),
    )


def rasterise(ellipses: Sequence[Ellipse], size: int, *, supersampling: int = 8) -> Array:
    """The ellipses as an image (size, size), float32, at least 0."""
    image = np.zeros((size, size))
    for ellipse in ellipses:
        image += ellipse.value * coverage(ellipse, size, supersampling=supersampling)
    return image.clip(min=0).astype(np.float32)


def coverage(ellipse: Ellipse, size: int, *, supersampling: int = 8) -> Array:
    """The part of every pixel that an ellipse covers (size, size), float64, by supersampling^2 points a pixel."""
    n_points = size * supersampling
    grid = (np.arange(n_points) + 0.5) * 2 / n_points - 1
    x, y = grid - ellipse.x, -grid[:, None] - ellipse.y
    cos, sin = math.cos(ellipse.turn), math.sin(ellipse.turn)
    along, across = (x * cos + y * sin) / ellipse.half_width, (y * cos - x * sin) / ellipse.half_height
    inside = along**2 + across**2 <= 1
    pixels: Array = inside.reshape(size, supersampling, size, supersampling).mean(axis=(1, 3))
    return pixels


def exact_sinogram(
    ellipses: Sequence[Ellipse], size: int, angles: Sequence[float], *, n_bins: int, bin_spacing: float = 1.0
) -> Array:
    """Sinogram (n_views, n_bins), float64, of the ellipses themselves, not of their pixels.

    Each value is the mean of the line integrals over a bin, in closed form, in pixel sides of an image of
    ``size`` pixels. Bins are centred on the image's centre; angles in radians.
    """
    edges = (np.arange(n_bins + 1) - n_bins / 2) * bin_spacing * 2 / size
    theta = np.asarray(angles, dtype=np.float64)[:, None]
    total = sum(_integral(ellipse, edges, theta) for ellipse in ellipses)
    return np.diff(total, axis=1) * (size / 2) ** 2 / bin_spacing


def _integral(ellipse: Ellipse, t: Array, theta: Array) -> Array:
    """Integral of the ellipse's projection up to t, for every view (n_views, 1) and position (n,)."""
    a, b = ellipse.half_width, ellipse.half_height
    s = np.sqrt((a * np.cos(theta - ellipse.turn)) ** 2 + (b * np.sin(theta - ellipse.turn)) ** 2)
    centre = ellipse.x * np.cos(theta) + ellipse.y * np.sin(theta)
    u = np.clip((t - centre) / s, -1, 1)
    integral: Array = ellipse.value * a * b * (u * np.sqrt(1 - u**2) + np.arcsin(u))
    return integral
