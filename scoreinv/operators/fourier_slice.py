"""The transform of Song et al. 2022 (arXiv:2111.08005) for CT: cells of a padded Fourier grid near radial lines.

By the central-slice theorem, the Fourier transform of a view along the detector is the image's transform on
a line through the origin at the view's angle. T is the orthonormal transform of the image after zero padding
to E = expansion * ceil(sqrt(2) * size) pixels; the mask holds the cells nearest to E points on each line.
T^-1 T is the identity to machine precision, and every projection contracts because A^H A <= 1.

The price is that a cell lies up to half a cell beside its line: a sinogram agrees with the model to a few
per cent (less with a larger expansion).

Frequencies follow torch.fft: the zero frequency comes first, the origin is the image's first pixel.
"""

import math

import torch
from torch import Tensor

from scoreinv.operators.geometry import covering_n_bins
from scoreinv.operators.linear import MaskedTransform


class FourierSlice(MaskedTransform):
    """Images (batch, n_channels, size, size) to the spectrum at ``cells``, complex, each cell once.

    Data are (batch, n_cells) of one channel and (batch, n_channels, n_cells) of more.
    """

    is_complex = True

    def __init__(self, size: int, angles: tuple[float, ...], *, expansion: int = 4, n_channels: int = 1) -> None:
        """Take the angles of the measured views, in radians, and the factor of padding."""
        self.grid = 2 * math.ceil(expansion * covering_n_bins(size) / 2)
        self.angles = angles
        self.image_shape = (n_channels, size, size)
        self.cells = _distinct(torch.cat([_flat(line_cells(angle, self.grid), self.grid) for angle in angles]))
        self.data_shape = (len(self.cells),) if n_channels == 1 else (n_channels, len(self.cells))

    @property
    def mask(self) -> Tensor:
        """Which cells of the grid are measured, bool (E, E)."""
        mask = torch.zeros(self.grid**2, dtype=torch.bool, device=self.cells.device)
        mask[self.cells] = True
        return mask.view(self.grid, self.grid)

    def transform(self, x: Tensor) -> Tensor:
        """T x: the spectrum (batch, n_channels, E, E) of the padded image."""
        spectrum: Tensor = torch.fft.fft2(x, s=(self.grid, self.grid), norm="ortho")
        return spectrum

    def inverse_transform(self, spectrum: Tensor) -> Tensor:
        """T^-1 k: the real part of the image (batch, n_channels, size, size), its padding cut off."""
        size = self.image_shape[-1]
        x: Tensor = torch.fft.ifft2(spectrum, norm="ortho").real
        return x[..., :size, :size]

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x).flatten(2)[..., self.cells].view(len(x), *self.data_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        n_channels = self.image_shape[0]
        cells = y.reshape(len(y), n_channels, len(self.cells))
        spectrum = y.new_zeros(len(y), n_channels, self.grid**2).index_copy(2, self.cells, cells)
        return self.inverse_transform(spectrum.view(len(y), n_channels, self.grid, self.grid))

    def correct(self, residual: Tensor) -> Tensor:
        """T^-1 of the residual on its cells and 0 elsewhere: the adjoint, because T is orthonormal."""
        return self.adjoint(residual)


def line_cells(angle: float, grid: int) -> Tensor:
    """Signed frequencies (n, 2), horizontal and downwards, of the distinct cells along a view's line.

    As many points as the grid is wide are rounded to cells. They stay clear of the highest frequency, so
    that each cell has its mirror.
    """
    radius = torch.linspace(-(grid / 2 - 1), grid / 2 - 1, grid, dtype=torch.float64)
    points = torch.stack([radius * math.cos(angle), -radius * math.sin(angle)], dim=1)
    return _distinct(points.round().long())


def _distinct(rows: Tensor) -> Tensor:
    """The different rows, sorted."""
    distinct: Tensor = torch.unique(rows, dim=0)  # type: ignore[no-untyped-call]
    return distinct


def _flat(cells: Tensor, grid: int) -> Tensor:
    return (cells[:, 1] % grid) * grid + cells[:, 0] % grid


def from_sinogram(operator: FourierSlice, y: Tensor, *, bin_spacing: float) -> Tensor:
    """Data (batch, *data_shape) of the operator from sinograms (batch, ..., n_views, n_bins) of the same views.

    Each view is transformed along the detector exactly at its cells' positions along the line. The blur of
    pixels and bins is divided out. A cell that several views share gets their mean, in a fixed order.
    """
    sinograms = y.flatten(0, -3)
    sums = torch.zeros(len(sinograms), len(operator.cells), dtype=torch.complex(y, y).dtype, device=y.device)
    counts = torch.zeros(len(operator.cells), dtype=y.dtype, device=y.device)
    bins = (torch.arange(y.shape[-1], dtype=torch.float64) - (y.shape[-1] - 1) / 2) * bin_spacing
    for view, angle in enumerate(operator.angles):
        cells = line_cells(angle, operator.grid)
        place = torch.searchsorted(operator.cells, _flat(cells, operator.grid).to(operator.cells.device))
        kernel = _slice_kernel(operator, cells, angle, bins, bin_spacing).to(sums)
        sums[:, place] = sums[:, place] + sinograms[:, view].to(sums) @ kernel.T
        counts[place] = counts[place] + 1
    return (sums / counts).view(len(y), *operator.data_shape)


def _slice_kernel(operator: FourierSlice, cells: Tensor, angle: float, bins: Tensor, bin_spacing: float) -> Tensor:
    """Rows (n_cells, n_bins) that turn a view, whose bins lie at ``bins``, into the spectrum at its cells."""
    right, down = cells.double().T / operator.grid
    along = right * math.cos(angle) - down * math.sin(angle)
    centre = (right + down) * (operator.image_shape[-1] - 1) / 2
    blur = torch.sinc(right) * torch.sinc(down) * torch.sinc(along * bin_spacing)
    phase = torch.exp(-2j * torch.pi * (along[:, None] * bins + centre[:, None]))
    return phase * (bin_spacing / operator.grid / blur)[:, None]
