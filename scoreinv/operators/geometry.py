"""Where the lines of a CT scan run: what a scanner is to the operator y = A x.

A geometry knows the rows of A, view by view, and what a direct reconstruction needs of them. The operator, the stored
matrix and the simulation from finer images take any geometry; parallel beams are one (``ParallelBeam``).

Lengths are in pixel sides. The image's pixels are numbered row by row; the pixel in row r and column c lies at
x = c - (size - 1) / 2, y = (size - 1) / 2 - r (upwards).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.operators.linear import MaskedTransform


class SparseRows(NamedTuple):
    """A sparse matrix by its rows (CSR): those of row i lie between indptr[i] and indptr[i + 1], its columns ascending.

    A ``scipy.sparse.csr_matrix`` has these fields, too, and serves as well; scipy itself is not needed.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    shape: tuple[int, int]


class Geometry(ABC):
    """The lines of a scan. A subclass is a frozen dataclass: equal fields are the same matrix.

    Attributes:
        size: pixels along each side of the image.
        full_arc: radians over which a scan sees every line as often as ``filtered`` expects.
    """

    size: int
    full_arc: ClassVar[float] = math.pi

    @property
    @abstractmethod
    def data_shape(self) -> tuple[int, int]:
        """(n_views, n_bins)."""

    @abstractmethod
    def rows(self, view: int) -> SparseRows:
        """The rows (n_bins, size * size) of one view: line integrals, or their means over the width of a bin."""

    @property
    @abstractmethod
    def step(self) -> float:
        """The arc, in radians, that one view stands for."""

    @abstractmethod
    def refined(self, factor: int) -> Self:
        """The same scan on pixels and bins that are ``factor`` times finer, in units of the finer pixels."""

    def views(self, places: Sequence[int]) -> Self:
        """The scan of some of the views.

        Raises:
            UserError: if it has no views without the others; so it is here.
        """
        raise UserError(f"{type(self).__name__} does not say what some of its views are: give it a method views")

    @abstractmethod
    def filtered(self, y: Tensor) -> Tensor:
        """Sinograms (..., n_views, n_bins) made ready for x = step A^T filtered(y), the direct reconstruction."""

    def balanced(self, y: Tensor) -> Tensor:
        """Sinograms (..., n_views, n_bins) filtered so that A^T balanced A treats all that few views see nearly alike.

        Low frequencies are seen by all views, high ones by one each; here as ``filtered``, which suits dense views.
        """
        return self.filtered(y)

    def fold(self) -> "Fold | None":
        """How the views follow from fewer ones by symmetry, if they do; a large matrix is then smaller."""
        return None

    def as_fourier_slice(self, y: Tensor) -> tuple[MaskedTransform, Tensor]:
        """The transform of Song et al. 2022 for the same views, and its data from sinograms (batch, ...).

        Raises:
            UserError: if the lines of a view are not parallel.
        """
        raise UserError(
            f"the Fourier-slice transform needs views of parallel lines, which {type(self).__name__} has not: "
            "choose transform=residual"
        )


class Fold(NamedTuple):
    """Views that are views of a smaller scan, of the turned or mirrored image.

    Attributes:
        geometry: of the smaller scan.
        views: of the smaller scan, one for each view.
        moves: of the image, one for each view: see ``moved``.
        are_reversed: whether a view's bins run the other way.
    """

    geometry: Geometry
    views: tuple[int, ...]
    moves: tuple[int, ...]
    are_reversed: tuple[bool, ...]


def moved(x: Tensor, move: int) -> Tensor:
    """Images (..., size, size) after move // 2 quarter turns to the left, then mirrored left to right if it is odd."""
    turned = torch.rot90(x, move // 2, (-2, -1))
    return turned.flip(-1) if move % 2 else turned


def moved_back(x: Tensor, move: int) -> Tensor:
    """The inverse of ``moved``, and its adjoint."""
    return torch.rot90(x.flip(-1) if move % 2 else x, -(move // 2), (-2, -1))


def sorted_rows(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> SparseRows:
    """The matrix with these entries, each named once; the columns of a row stay in the order in which they come."""
    order = _order(rows)
    counts = np.bincount(rows, minlength=shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return SparseRows(indptr, columns[order].astype(np.int32), values[order], shape)


def _order(keys: np.ndarray) -> np.ndarray:
    """The stable order of keys from 0 to 2^31 - 1, in two passes over 16 bits, which numpy sorts in linear time."""
    order = np.argsort((keys & 0xFFFF).astype(np.uint16), kind="stable")
    if len(keys) and keys.max() > 0xFFFF:
        order = order[np.argsort((keys[order] >> 16).astype(np.uint16), kind="stable")]
    return order


def covering_n_bins(size: int) -> int:
    """Bins of one pixel's width that cover the image's diagonal."""
    return math.ceil(math.sqrt(2) * size)


def ramp_filter(y: Tensor, *, highest: float = 0.5) -> Tensor:
    """Sinograms (..., n_bins) convolved along the detector with the band-limited ramp h.

    h(0) = 1/4, h(n) = -1 / (pi n)^2 at odd n, 0 at even n (Ramachandran and Lakshminarayanan 1971).

    Args:
        y: sinograms.
        highest: the frequency, in cycles per bin, above which the ramp rises no more.
    """
    n_bins = y.shape[-1]
    padded = 1 << (2 * n_bins - 2).bit_length()
    spectrum = torch.fft.rfft(y, padded) * _ramp_spectrum(n_bins, padded).clamp(max=highest).to(y)
    filtered: Tensor = torch.fft.irfft(spectrum, padded)
    return filtered[..., :n_bins]


@lru_cache(maxsize=8)
def _ramp_spectrum(n_bins: int, padded: int) -> Tensor:
    n = torch.arange(1, n_bins, dtype=torch.float64)
    tail = torch.where(n % 2 == 1, -1 / (math.pi * n) ** 2, 0.0)
    kernel = torch.zeros(padded, dtype=torch.float64)
    kernel[0] = 0.25
    kernel[1:n_bins] = tail
    kernel[-(n_bins - 1) :] = tail.flip(0)
    spectrum: Tensor = torch.fft.rfft(kernel).real
    return spectrum
