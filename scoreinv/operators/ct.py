"""Parallel-beam computed tomography with few views, or with views of a limited arc: y = A x.

A value of a sinogram (n_views, n_bins) is the mean of the image's line integrals over the width of a
bin, in units of pixel sides. Filtered backprojection of N views over pi is

    x = pi / (2 N) A^T (2 h * y),    h(0) = 1/4, h(n) = -1 / (pi n)^2 at odd n, 0 at even n,

with the band-limited ramp h (Ramachandran and Lakshminarayanan 1971).
"""

import math
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.contract import Modality
from scoreinv.errors import UserError
from scoreinv.measurement import NO_CONTEXT, Context, MeasurementSpec
from scoreinv.operators.ct_backends import Backend, projector, require
from scoreinv.operators.fourier_slice import FourierSlice, from_sinogram
from scoreinv.operators.linear import MaskedTransform
from scoreinv.operators.projection_matrix import ParallelBeamGeometry, covering_n_bins

ViewRule = Literal["equispaced", "paper"]


MAX_VIEWS = 100_000
"""Many times what an image of 4096 pixels needs (about 6,400)."""


class SparseViewCT(MeasurementSpec):
    """Parallel-beam CT with few views over half a turn."""

    direct_name: ClassVar[str] = "FBP"
    kind: Literal["sparse_view_ct"] = "sparse_view_ct"
    n_views: int = Field(23, ge=1, le=MAX_VIEWS, description="Measured views.")
    n_full: int = Field(
        180, ge=1, le=MAX_VIEWS, title="Views of the full scan", description="Of which the measured views are a part."
    )
    views: ViewRule = Field(
        "equispaced",
        description="paper: rows of the full scan as Song et al. 2022 chose; their last is nearly the first.",
    )
    backend: Backend = Field("matrix", description="What computes the line integrals.")

    @model_validator(mode="after")
    def _views_are_rows_of_the_full_scan(self) -> "SparseViewCT":
        if self.views == "paper" and self.n_views > self.n_full:
            raise ValueError(f"n_views={self.n_views} is more than the n_full={self.n_full} it is chosen from")
        return self

    @property
    def modality(self) -> Modality:
        return "ct"

    def title(self) -> str:
        return f"Sparse-view CT, {self.n_views} views"

    def angles(self) -> tuple[float, ...]:
        """Of the measured views, in radians."""
        return paper_angles(self.n_views, self.n_full) if self.views == "paper" else equispaced_angles(self.n_views)

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "ParallelBeam":
        geometry = ParallelBeamGeometry(size, self.angles(), covering_n_bins(size))
        return ParallelBeam(geometry, n_full=max(self.n_full, self.n_views), backend=self.backend)


class LimitedAngleCT(MeasurementSpec):
    """Parallel-beam CT with views over a part of half a turn."""

    direct_name: ClassVar[str] = "FBP"
    kind: Literal["limited_angle_ct"] = "limited_angle_ct"
    n_views: int = Field(60, ge=1, le=MAX_VIEWS, description="Measured views.")
    arc_degrees: float = Field(120.0, ge=1, le=180, description="The arc from the first view, end excluded.")
    backend: Backend = Field("matrix", description="What computes the line integrals.")

    @property
    def modality(self) -> Modality:
        return "ct"

    def title(self) -> str:
        return f"Limited-angle CT, {self.n_views} views over {self.arc_degrees:g} degrees"

    def angles(self) -> tuple[float, ...]:
        """Of the measured views, in radians."""
        return equispaced_angles(self.n_views, arc=math.radians(self.arc_degrees))

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "ParallelBeam":
        geometry = ParallelBeamGeometry(size, self.angles(), covering_n_bins(size))
        return ParallelBeam(geometry, n_full=round(self.n_views * 180 / self.arc_degrees), backend=self.backend)


def equispaced_angles(n_views: int, *, arc: float = math.pi) -> tuple[float, ...]:
    """Angles from 0 at even steps over the arc, its end excluded."""
    return tuple(k * arc / n_views for k in range(n_views))


def paper_angles(n_views: int, n_full: int) -> tuple[float, ...]:
    """The rows round(linspace(0, n_full - 1, n_views)) of n_full equispaced views (Song et al. 2022, as released).

    Raises:
        ValueError: if there are fewer rows than views.
    """
    if n_views > n_full:
        raise UserError(f"{n_views} views cannot be rows of a full scan of n_full={n_full}: raise n_full")
    rows = torch.linspace(0, n_full - 1, n_views, dtype=torch.float64).round()
    return tuple(float(row) * math.pi / n_full for row in rows)


class ParallelBeam(MaskedTransform):
    """Images (batch, 1, size, size) to sinograms (batch, n_views, n_bins).

    The operator keeps its geometry alone; the matrices are built when first used and shared by all
    operators of one geometry in a process, so it pickles small. They come in the dtype and on the device of
    the images that are passed.
    """

    def __init__(
        self, geometry: ParallelBeamGeometry, *, n_full: int | None = None, backend: Backend = "matrix"
    ) -> None:
        """Take a geometry whose views belong to a full scan over pi.

        Args:
            geometry: of the measured views.
            n_full: views of the full scan; for a limited arc, at the same step. As many as measured if not set.
            backend: what computes the line integrals.

        Raises:
            ImportError: if the backend's package is not installed.
        """
        require(backend)
        self.geometry = geometry
        self.n_full = n_full or geometry.n_views
        self.backend: Backend = backend
        self.image_shape = (1, geometry.size, geometry.size)
        self.data_shape = (geometry.n_views, geometry.n_bins)
        self.angles = torch.tensor(geometry.angles)

    def forward(self, x: Tensor) -> Tensor:
        return projector(self.geometry, self.backend).project(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return projector(self.geometry, self.backend).backproject(y)

    def mean_over_rays(self, values: Tensor) -> Tensor:
        """Each ray counts by its length in the pixel and in the whole image: A^H (A 1 values) / A^H A 1."""
        lengths = self.forward(values.new_ones(1, *self.image_shape))
        return self.adjoint(lengths * values) / self.adjoint(lengths).clamp_min(1e-6)

    def simulate(self, fine: Tensor) -> Tensor:
        """Line integrals of the finer images over finer bins, averaged to the bins of this operator."""
        return simulate_sinogram(fine, self)

    def direct(self, y: Tensor) -> Tensor:
        """Filtered backprojection, each view weighted by the step between the measured views."""
        return self.fbp(y, scale=angular_step(self.geometry) / 2)

    def fbp(self, y: Tensor, *, scale: float) -> Tensor:
        """scale A^T (2 h * y): pi / (2 N) is the scale of a full scan of N views."""
        return self.adjoint(2 * scale * ramp_filter(y))

    def correct(self, residual: Tensor) -> Tensor:
        """Filtered backprojection at the scale of the full scan, in which the measured views are a few.

        With the larger scale of the measured views alone the projection would diverge. Where even the full
        scan is too sparse for the image size, the scale is lowered until every projection contracts.
        """
        return self.fbp(residual, scale=residual_scale(self.geometry, self.n_full))

    def as_fourier_slice(self, y: Tensor) -> tuple[FourierSlice, Tensor]:
        """The paper's transform for the same views, and its data (batch, n_cells) from sinograms."""
        operator = FourierSlice(self.geometry.size, self.geometry.angles).to(y.device)
        return operator, from_sinogram(operator, self.geometry, y)


def angular_step(geometry: ParallelBeamGeometry) -> float:
    """The arc, in radians, that one measured view stands for: the mean step, closed to pi if it nearly is."""
    n_views = geometry.n_views
    if n_views == 1:
        return math.pi
    step = (max(geometry.angles) - min(geometry.angles)) / (n_views - 1)
    return math.pi / n_views if step * n_views > math.pi * (1 - 1e-9) else step


def ramp_filter(y: Tensor) -> Tensor:
    """Sinograms (..., n_bins) convolved along the detector with the band-limited ramp h."""
    n_bins = y.shape[-1]
    padded = 1 << (2 * n_bins - 2).bit_length()
    spectrum = torch.fft.rfft(y, padded) * _ramp_spectrum(n_bins, padded).to(y)
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


@lru_cache(maxsize=32)
def residual_scale(geometry: ParallelBeamGeometry, n_full: int) -> float:
    """The scale of a full scan, pi / (2 n_full), or the largest at which A^T h A has no eigenvalue above 1.

    The eigenvalue comes from 20 power iterations with the exact matrix, from a fixed start.
    """
    operator = ParallelBeam(geometry)
    x = torch.randn(1, *operator.image_shape, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        x = operator.fbp(operator.forward(x / x.norm()), scale=1.0)
    return min(math.pi / (2 * n_full), 1 / float(x.norm()))


def simulate_sinogram(fine: Tensor, operator: ParallelBeam) -> Tensor:
    """The operator's data, computed on the grid of images that are finer by a whole factor.

    The fine bins are averaged over the operator's bins; lengths are in the operator's pixel sides.
    """
    geometry = operator.geometry
    factor = fine.shape[-1] // geometry.size
    y = projector(geometry.refined(factor), operator.backend).project(fine)
    return y.view(len(y), geometry.n_views, geometry.n_bins, factor).mean(-1) / factor
