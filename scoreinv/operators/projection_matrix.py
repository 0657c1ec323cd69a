"""The matrix of a scan, held in memory: the pair (A, A^T) of a geometry that is small enough.

The transpose is stored by its own rows: sparse products gather along rows about as fast as memory allows, and scatter
far slower. A larger matrix lies in a file (``stored_matrix``).
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from scoreinv.operators.geometry import Geometry, SparseRows, sorted_rows

ENTRIES_PER_LINE = 1.6
"""Pixels that a bin of one pixel's width sees, per pixel of the image's side: (1 + 4 / pi) / sqrt(2) for parallel
beams on a detector as wide as the diagonal."""

ENTRY_BYTES = 8
"""A float32 value and an int32 column."""


def n_bytes(geometry: Geometry) -> int:
    """About what the matrix takes, in one direction: from the size of the scan alone."""
    return round(ENTRY_BYTES * ENTRIES_PER_LINE * math.prod(geometry.data_shape) * geometry.size)


@lru_cache(maxsize=8)
def projection_matrix(
    geometry: Geometry, dtype: torch.dtype, device: torch.device, *, transposed: bool = False
) -> Tensor:
    """The scan as a sparse CSR tensor (n_views * n_bins, size * size), or its exact transpose."""
    if device.type != "cpu":
        return projection_matrix(geometry, dtype, torch.device("cpu"), transposed=transposed).to(device)
    matrix = rows_of(geometry, range(geometry.data_shape[0]), transposed=transposed)
    starts, columns = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices))
    return as_csr(starts.int(), columns.int(), torch.from_numpy(matrix.data).to(dtype), matrix.shape)


def rows_of(geometry: Geometry, views: Iterable[int], *, transposed: bool = False) -> SparseRows:
    """The rows of some views one below the other, or their transpose."""
    rows = _stacked([geometry.rows(view) for view in views])
    return _transposed(rows) if transposed else rows


def _stacked(parts: Sequence[SparseRows]) -> SparseRows:
    counts = np.concatenate([np.diff(part.indptr) for part in parts])
    return SparseRows(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        np.concatenate([part.indices for part in parts]).astype(np.int32),
        np.concatenate([part.data for part in parts]),
        (len(counts), parts[0].shape[1]),
    )


def _transposed(matrix: SparseRows) -> SparseRows:
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    return sorted_rows(matrix.indices, rows, matrix.data, (matrix.shape[1], matrix.shape[0]))


def as_csr(starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """The CSR tensor over these arrays, which it shares."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, values, size=shape, check_invariants=False)


def rows_times(matrix: Tensor, batch: Tensor) -> Tensor:
    """The matrix times each item of a batch (batch, ...): (batch, rows).

    The batch runs fastest in memory, so that one visit to an entry of the matrix serves all of it.
    """
    columns = batch.flatten(1)
    if len(columns) == 1:
        return (matrix @ columns[0])[None]
    return (matrix @ columns.T.contiguous()).T.contiguous()
