"""The matrix of a parallel-beam scan, from exact areas.

The projection of a square pixel of side 1 at an angle theta is a trapezoid of area 1, with half base
(|cos| + |sin|) / 2 and half top ||cos| - |sin|| / 2. A bin's value is the mean of the image's line
integrals over the width of the bin, so a coefficient is the trapezoid's integral over the bin divided by
the bin's width. Nothing is approximated for an image that is constant on its pixels.

The pixel in row r and column c lies at x = c - (size - 1) / 2, y = (size - 1) / 2 - r (upwards); the
centre of rotation is the image centre. Bin b of a view at angle theta holds the lines
x cos theta + y sin theta = t with t within half a bin of (b - (n_bins - 1) / 2) * bin_spacing.
"""

import math
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class ParallelBeamGeometry:
    """Where the lines of a parallel-beam scan run, in units of pixel sides.

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
    def n_views(self) -> int:
        """How many views there are."""
        return len(self.angles)

    def refined(self, factor: int) -> "ParallelBeamGeometry":
        """The same scan on pixels and bins that are ``factor`` times finer, in units of the finer pixels."""
        return ParallelBeamGeometry(self.size * factor, self.angles, self.n_bins * factor, self.bin_spacing)


def covering_n_bins(size: int) -> int:
    """Bins of one pixel's width that cover the image's diagonal."""
    return math.ceil(math.sqrt(2) * size)


@lru_cache(maxsize=8)
def projection_matrix(
    geometry: ParallelBeamGeometry, dtype: torch.dtype, device: torch.device, *, transposed: bool = False
) -> Tensor:
    """The scan as a sparse CSR tensor (n_views * n_bins, size * size), or its exact transpose.

    The transpose is stored by its own rows: sparse products gather along rows about as fast as memory
    allows, and scatter far slower.
    """
    if device.type != "cpu":
        return projection_matrix(geometry, dtype, torch.device("cpu"), transposed=transposed).to(device)
    rows = sparse.vstack([_view(geometry, angle) for angle in geometry.angles], format="csr")
    return _as_tensor(rows.T.tocsr() if transposed else rows, dtype)


def _view(geometry: ParallelBeamGeometry, angle: float) -> Any:
    """The rows (n_bins, size * size) of one view."""
    width, n_pixels = geometry.bin_spacing, geometry.size**2
    position = _positions(geometry.size, angle) + width * geometry.n_bins / 2
    half_base = (abs(math.cos(angle)) + abs(math.sin(angle))) / 2
    n_touched = math.ceil(2 * half_base / width) + 1
    bins = np.floor((position - half_base) / width)[:, None] + np.arange(n_touched + 1)
    values = np.diff(_trapezoid_integral(bins * width - position[:, None], angle), axis=1) / width
    bins = bins[:, :-1].astype(np.int32)
    kept = (values > 1e-9) & (bins >= 0) & (bins < geometry.n_bins)
    pixels = np.broadcast_to(np.arange(n_pixels, dtype=np.int32)[:, None], bins.shape)
    return sparse.csr_matrix((values[kept], (bins[kept], pixels[kept])), shape=(geometry.n_bins, n_pixels))


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


def _as_tensor(matrix: Any, dtype: torch.dtype) -> Tensor:
    starts, columns = (torch.from_numpy(part.astype(np.int32)) for part in (matrix.indptr, matrix.indices))
    values = torch.from_numpy(matrix.data).to(dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, values, size=matrix.shape, check_invariants=False)
