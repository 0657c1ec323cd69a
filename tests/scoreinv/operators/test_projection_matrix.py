"""The matrix against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse

from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.geometry import covering_n_bins
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.operators.projection_matrix import projection_matrix, rows_of

CPU = torch.device("cpu")


def dense(geometry: ParallelBeam) -> torch.Tensor:
    return projection_matrix(geometry, torch.float64, CPU).to_dense().view(*geometry.data_shape, -1)


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("spacing", [0.5, 1.0, 1.7])
def test_every_pixel_has_its_area_in_every_view(size: int, spacing: float) -> None:
    angles = (0.0, 0.3, math.pi / 4, math.pi / 2, 2.2, 3.0)
    geometry = ParallelBeam(size, angles, math.ceil(covering_n_bins(size) / spacing), spacing)
    torch.testing.assert_close(dense(geometry).sum(1) * spacing, torch.ones(len(angles), size**2, dtype=torch.float64))


def test_coefficients_are_areas_of_pixels_in_strips() -> None:
    """Against counting: the share of a pixel's points whose detector position lies in a bin."""
    size, angles = 6, (0.1, 0.9, 1.7, 2.6)
    geometry = ParallelBeam(size, angles, covering_n_bins(size))
    n = 400
    points = (np.arange(size * n) + 0.5) / n - size / 2
    for view, angle in enumerate(angles):
        t = points * math.cos(angle) - points[:, None] * math.sin(angle) + geometry.n_bins / 2
        counts = np.zeros((geometry.n_bins, size, size))
        for row, column in np.ndindex(size, size):
            block = t[row * n : (row + 1) * n, column * n : (column + 1) * n]
            counts[:, row, column] = np.bincount(np.floor(block).astype(int).ravel(), minlength=geometry.n_bins) / n**2
        np.testing.assert_allclose(dense(geometry)[view].numpy(), counts.reshape(geometry.n_bins, -1), atol=2e-3)


def test_columns_and_rows_are_the_first_and_the_quarter_turn() -> None:
    """Angle 0 sums columns, left to right; pi / 2 sums rows, bottom to top."""
    size = 6
    geometry = ParallelBeam(size, (0.0, math.pi / 2), size)
    image = torch.randn(size, size, dtype=torch.float64)
    sinogram = dense(geometry) @ image.flatten()
    torch.testing.assert_close(sinogram[0], image.sum(0))
    torch.testing.assert_close(sinogram[1], image.sum(1).flip(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_transpose_is_exact(dtype: torch.dtype) -> None:
    geometry = ParallelBeam(10, (0.2, 1.1, 2.0), covering_n_bins(10))
    matrix = projection_matrix(geometry, dtype, CPU)
    transposed = projection_matrix(geometry, dtype, CPU, transposed=True)
    assert torch.equal(matrix.to_dense().T, transposed.to_dense())
    assert matrix.dtype == transposed.dtype == dtype


def test_lines_outside_a_short_detector_are_dropped() -> None:
    full, short = (ParallelBeam(8, (0.4,), n) for n in (12, 6))
    torch.testing.assert_close(dense(short), dense(full)[:, 3:9])


def test_one_geometry_is_built_once() -> None:
    angles = (0.1, 0.2)
    first = projection_matrix(ParallelBeam(8, angles, 12), torch.float32, CPU)
    assert projection_matrix(ParallelBeam(8, angles, 12), torch.float32, CPU) is first


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_are_sorted_as_scipy_sorts_them(transposed: bool) -> None:
    """To the byte: files of large matrices are named by some of their rows."""
    geometry = SparseViewCT(n_views=5).geometry(300)
    mine = rows_of(geometry, range(5), transposed=transposed)
    parts = [geometry.rows(view) for view in range(5)]
    theirs = sparse.vstack([sparse.csr_matrix((p.data, p.indices, p.indptr), p.shape) for p in parts], format="csr")
    theirs = theirs.T.tocsr() if transposed else theirs
    assert (mine.shape, mine.indices.dtype, mine.indptr.dtype) == (theirs.shape, np.int32, np.int32)
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
