"""Parallel beams: the rows of a view from exact areas.

The projection of a square pixel of side 1 at an angle theta is a trapezoid of area 1, with half base
(|cos| + |sin|) / 2 and half top ||cos| - |sin|| / 2. A bin's value is the mean of the image's line
integrals over the width of the bin, so a coefficient is the trapezoid's integral over the bin divided by
the bin's width. Nothing is approximated for an image that is constant on its pixels.

The centre of rotation is the image centre. Bin b of a view at angle theta holds the lines
x cos theta + y sin theta = t with t within half a bin of (b - (n_bins - 1) / 2) * bin_spacing.

Filtered backprojection of N views over pi is x = pi / N A^T (h * y) with the band-limited ramp h.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from torch import Tensor

from scoreinv.operators.fourier_slice import FourierSlice, from_sinogram
from scoreinv.operators.geometry import Fold, Geometry, SparseRows, ramp_filter, sorted_rows

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

SAME_ANGLE = 1e-9
"""Radians: across 4096 pixels the lines of two such views lie 2e-6 of a pixel apart."""

WORTH_FOLDING = 0.6
"""Of the views. Every stored view then serves four positions of an image, wanted or not."""


@dataclass(frozen=True)
class ParallelBeam(Geometry):
    """Views of parallel lines, in units of pixel sides.

    Attributes:
        size: pixels along each side of the image.
        angles: of the views, in radians.
        n_bins: detector bins of a view.
        bin_spacing: width of a bin.
    """

    size: int
    angles: tuple[float, ...]
    n_bins: int
    bin_spacing: float = 1.0

    @property
    def data_shape(self) -> tuple[int, int]:
        return len(self.angles), self.n_bins

    @property
    def step(self) -> float:
        """The mean step between the views, closed to pi if it nearly is."""
        n_views = len(self.angles)
        if n_views == 1:
            return math.pi
        step = (max(self.angles) - min(self.angles)) / (n_views - 1)
        return math.pi / n_views if step * n_views > math.pi * (1 - 1e-9) else step

    def rows(self, view: int) -> SparseRows:
        angle, width, n_pixels = self.angles[view], self.bin_spacing, self.size**2
        position = _positions(self.size, angle) + width * self.n_bins / 2
        half_base = (abs(math.cos(angle)) + abs(math.sin(angle))) / 2
        n_touched = math.ceil(2 * half_base / width) + 1
        bins = np.floor((position - half_base) / width)[:, None] + np.arange(n_touched + 1)
        values = np.diff(_trapezoid_integral(bins * width - position[:, None], angle), axis=1) / width
        bins = bins[:, :-1].astype(np.int32)
        kept = (values > 1e-9) & (bins >= 0) & (bins < self.n_bins)
        pixels = np.broadcast_to(np.arange(n_pixels, dtype=np.int32)[:, None], bins.shape)
        return sorted_rows(bins[kept], pixels[kept], values[kept], (self.n_bins, n_pixels))

    def refined(self, factor: int) -> Self:
        return replace(self, size=self.size * factor, n_bins=self.n_bins * factor)

    def views(self, places: Sequence[int]) -> Self:
        return replace(self, angles=tuple(self.angles[place] for place in places))

    def filtered(self, y: Tensor) -> Tensor:
        return ramp_filter(y)

    def balanced(self, y: Tensor) -> Tensor:
        """The ramp up to the frequency 1 / (step size), where the lines of neighbouring views are a cell apart."""
        return ramp_filter(y, highest=self.bin_spacing / (self.step * self.size))

    def fold(self) -> Fold | None:
        """Views of [0, pi/4] serve those at pi/2 - theta, pi/2 + theta and pi - theta.

        None where that leaves more than ``WORTH_FOLDING`` of them.
        """
        folded = [_folded(angle) for angle in self.angles]
        distinct = {round(angle / SAME_ANGLE): angle for angle, _, _ in folded}
        if len(distinct) > WORTH_FOLDING * len(self.angles):
            return None
        places = {key: place for place, key in enumerate(distinct)}
        return Fold(
            geometry=replace(self, angles=tuple(distinct.values())),
            views=tuple(places[round(angle / SAME_ANGLE)] for angle, _, _ in folded),
            moves=tuple(move for _, move, _ in folded),
            are_reversed=tuple(is_reversed for _, _, is_reversed in folded),
        )

    def as_fourier_slice(self, y: Tensor) -> tuple[FourierSlice, Tensor]:
        n_channels = y.shape[1] if y.ndim > 3 else 1
        operator = FourierSlice(self.size, self.angles, n_channels=n_channels).to(y.device)
        return operator, from_sinogram(operator, y, bin_spacing=self.bin_spacing)


def _folded(angle: float) -> tuple[float, int, bool]:
    """The view in [0, pi/4] that a view is, of which move of the image, and whether its bins run the other way.

    Mirrored left to right, the view at theta is the one at pi - theta; after a quarter turn to the left, the one at
    theta - pi / 2. Half a turn further on a view is itself, reversed.
    """
    n_half_turns, rest = divmod(angle, math.pi)
    is_odd = n_half_turns % 2 == 1
    if rest <= math.pi / 4 + SAME_ANGLE:
        return rest, 0, is_odd
    if rest <= math.pi / 2:
        return math.pi / 2 - rest, 3, is_odd
    if rest < 3 * math.pi / 4:
        return rest - math.pi / 2, 2, not is_odd
    return math.pi - rest, 1, is_odd


def _positions(size: int, angle: float) -> FloatArray:
    """Where the pixel centres (size * size,) fall on the detector, from its middle."""
    grid = np.arange(size) - (size - 1) / 2
    return (grid * math.cos(angle) - grid[:, None] * math.sin(angle)).ravel()


def _trapezoid_integral(t: FloatArray, angle: float) -> FloatArray:
    """Integral from 0 to t of the projection of a unit pixel that is centred at 0."""
    long, short = sorted((abs(math.cos(angle)), abs(math.sin(angle))), reverse=True)
    base, top = (long + short) / 2, (long - short) / 2
    distance = np.abs(t)
    slope = (base - np.minimum(distance, base)) ** 2 / (2 * long * max(short, 1e-12))
    return np.sign(t) * np.where(distance <= top, distance / long, 0.5 - slope)
