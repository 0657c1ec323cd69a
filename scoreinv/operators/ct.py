"""Computed tomography: y = A x, with the lines of a geometry; and its measurements with few views, or of a limited arc.

A value of a sinogram (n_views, n_bins) is a line integral of the image, or its mean over the width of a bin, in units
of pixel sides. The direct reconstruction is x = step A^T filtered(y) with the step and the filter of the geometry.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.contract import Modality
from scoreinv.errors import UserError
from scoreinv.measurement import NO_CONTEXT, Context, Measured, MeasurementSpec
from scoreinv.operators.geometry import Geometry, covering_n_bins
from scoreinv.operators.linear import LinearOperator, MaskedTransform, ProjectorName
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.operators.pixels import curvature_within, sharper
from scoreinv.operators.projectors import projector

ViewRule = Literal["equispaced", "paper"]


MAX_VIEWS = 100_000
"""Many times what an image of 4096 pixels needs (about 6,400)."""


class CTMeasurement(MeasurementSpec):
    """What all CT has in common: a geometry, whose views are some of a full scan's."""

    direct_name: ClassVar[str] = "FBP"
    moved: ClassVar[Mapping[str, str]] = {"backend": "execution.projector"}

    @property
    def modality(self) -> Modality:
        return "ct"

    @abstractmethod
    def geometry(self, size: int) -> Geometry:
        """The lines of the measured views, through images of size x size pixels."""

    @property
    @abstractmethod
    def n_full_scan(self) -> int:
        """Views of the full scan."""

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "CTOperator":
        return CTOperator(self.geometry(size), n_full=self.n_full_scan, n_channels=n_channels)

    def matched(self, operator: LinearOperator, measured: Measured) -> tuple[LinearOperator, Measured]:
        """Lines through images whose pixels are not flat."""
        assert isinstance(operator, CTOperator)
        return operator.with_curvature(curvature_within(measured.fine_factor)), measured


class SparseViewCT(CTMeasurement):
    """Parallel-beam CT with few views over half a turn."""

    kind: Literal["sparse_view_ct"] = "sparse_view_ct"
    n_views: int = Field(23, ge=1, le=MAX_VIEWS, description="Measured views.")
    n_full: int = Field(
        180, ge=1, le=MAX_VIEWS, title="Views of the full scan", description="Of which the measured views are a part."
    )
    views: ViewRule = Field(
        "equispaced",
        description="paper: rows of the full scan as Song et al. 2022 chose; their last is nearly the first.",
    )

    @model_validator(mode="after")
    def _views_are_rows_of_the_full_scan(self) -> "SparseViewCT":
        if self.views == "paper" and self.n_views > self.n_full:
            raise ValueError(f"n_views={self.n_views} is more than the n_full={self.n_full} it is chosen from")
        return self

    def title(self) -> str:
        return f"Sparse-view CT, {self.n_views} views"

    def angles(self) -> tuple[float, ...]:
        """Of the measured views, in radians."""
        return paper_angles(self.n_views, self.n_full) if self.views == "paper" else equispaced_angles(self.n_views)

    def geometry(self, size: int) -> ParallelBeam:
        return ParallelBeam(size, self.angles(), covering_n_bins(size))

    @property
    def n_full_scan(self) -> int:
        return max(self.n_full, self.n_views)


class LimitedAngleCT(CTMeasurement):
    """Parallel-beam CT with views over a part of half a turn."""

    kind: Literal["limited_angle_ct"] = "limited_angle_ct"
    n_views: int = Field(60, ge=1, le=MAX_VIEWS, description="Measured views.")
    arc_degrees: float = Field(120.0, ge=1, le=180, description="The arc from the first view, end excluded.")

    def title(self) -> str:
        return f"Limited-angle CT, {self.n_views} views over {self.arc_degrees:g} degrees"

    def angles(self) -> tuple[float, ...]:
        """Of the measured views, in radians."""
        return equispaced_angles(self.n_views, arc=math.radians(self.arc_degrees))

    def geometry(self, size: int) -> ParallelBeam:
        return ParallelBeam(size, self.angles(), covering_n_bins(size))

    @property
    def n_full_scan(self) -> int:
        return round(self.n_views * 180 / self.arc_degrees)


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


class CTOperator(MaskedTransform):
    """Images (batch, n_channels, size, size) to sinograms, channel by channel.

    Data are (batch, n_views, n_bins) of one channel and (batch, n_channels, n_views, n_bins) of more.

    The operator keeps its geometry alone; the matrices are built when first used and shared by all
    operators of one geometry in a process, so it pickles small. They come in the dtype and on the device of
    the images that are passed.
    """

    def __init__(self, geometry: Geometry, *, n_full: int | None = None, n_channels: int = 1) -> None:
        """Take a geometry whose views belong to a full scan.

        Args:
            geometry: of the measured views.
            n_full: views of the full scan; for a limited arc, at the same step. As many as measured if not set.
            n_channels: of the images.
        """
        self.geometry = geometry
        self.n_full = n_full or geometry.data_shape[0]
        self.projector: ProjectorName = "matrix"
        self.curvature = 0.0
        self.image_shape = (n_channels, geometry.size, geometry.size)
        self.data_shape = geometry.data_shape if n_channels == 1 else (n_channels, *geometry.data_shape)
        # It has no tensors of its own: this one says where its images are.
        self.place = torch.empty(0)

    def with_projector(self, name: ProjectorName) -> Self:
        """The same operator with another way to compute line integrals.

        Raises:
            MissingPackage: if the projector's package is not installed.
            UserError: if it cannot compute these lines.
        """
        projector(self.geometry, name)
        chosen = copy.copy(self)
        chosen.projector = name
        return chosen

    def with_curvature(self, curvature: float) -> Self:
        """The same lines through images whose values vary within pixels: see ``pixels.sharper``; 0 is flat."""
        chosen = copy.copy(self)
        chosen.curvature, chosen._norm, chosen._column_norm = curvature, None, None
        return chosen

    def views(self, places: Sequence[int]) -> "CTOperator":
        """The operator of some of the views, which belong to the same full scan.

        Raises:
            UserError: if the geometry has no views without the others.
        """
        chosen = CTOperator(self.geometry.views(places), n_full=self.n_full, n_channels=self.image_shape[0])
        return chosen.with_projector(self.projector).with_curvature(self.curvature)

    def energy(self, y: Tensor) -> Tensor:
        """The mean square over the pixels of an image whose sinogram is y, step <y, filtered(y)>, (batch,).

        The views must be spread over the whole arc.
        """
        sums = (y * self.geometry.filtered(y)).flatten(1).sum(1)
        step = self.geometry.full_arc / self.geometry.data_shape[0]
        return step * sums / math.prod(self.image_shape)

    def noise_energy(self, std: Tensor) -> Tensor:
        """The expected ``energy`` of noise of these deviations, independent from ray to ray, (batch,).

        A ramp filter takes nothing from a bin to those at even distances, so two combs find all of its diagonal.
        """
        combs = torch.stack([torch.arange(self.geometry.data_shape[1], device=std.device) % 2 == k for k in (0, 1)])
        rows = combs[:, None].expand(2, *self.geometry.data_shape).to(std)
        diagonal = (rows * self.geometry.filtered(rows)).sum(0)
        step = self.geometry.full_arc / self.geometry.data_shape[0]
        return step * (diagonal * std.square()).flatten(1).sum(1) / math.prod(self.image_shape)

    def forward(self, x: Tensor) -> Tensor:
        image = sharper(x, self.curvature) if self.curvature else x
        return self._projected(image, self.geometry).view(len(x), *self.data_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        image = self.backprojected(y)
        return sharper(image, self.curvature) if self.curvature else image

    def backprojected(self, y: Tensor) -> Tensor:
        """The adjoint for flat pixels: what direct reconstructions and corrections put into the image."""
        images = projector(self.geometry, self.projector).backproject(y.reshape(-1, *self.geometry.data_shape))
        return images.view(len(y), *self.image_shape)

    def simulate(self, fine: Tensor) -> Tensor:
        """Data of images on a grid that is finer by a whole factor, computed on that grid.

        The fine bins are averaged over the operator's bins; lengths are in the operator's pixel sides.
        """
        factor = fine.shape[-1] // self.geometry.size
        y = self._projected(fine, self.geometry.refined(factor))
        return y.view(len(fine), *self.data_shape, factor).mean(-1) / factor

    def _projected(self, x: Tensor, geometry: Geometry) -> Tensor:
        """Sinograms (batch * n_channels, n_views, n_bins) on a geometry."""
        return projector(geometry, self.projector).project(x.reshape(-1, geometry.size, geometry.size))

    def mean_over_rays(self, values: Tensor) -> Tensor:
        """Each ray counts by its length in the pixel and in the whole image: A^H (A 1 values) / A^H A 1."""
        lengths = self.forward(values.new_ones(1, *self.image_shape))
        return self.adjoint(lengths * values) / self.adjoint(lengths).clamp_min(1e-6)

    def direct(self, y: Tensor) -> Tensor:
        """Filtered backprojection, each view weighted by the arc that it stands for."""
        return self.fbp(y, step=self.geometry.step)

    def fbp(self, y: Tensor, *, step: float) -> Tensor:
        """step A^T filtered(y) with flat pixels: a full scan of N parallel views has the step pi / N."""
        return self.backprojected(step * self.geometry.filtered(y))

    def correct(self, residual: Tensor) -> Tensor:
        """Filtered backprojection at the step of the full scan, in which the measured views are a few.

        With the larger step of the measured views alone the projection would diverge. Where even the full
        scan is too sparse for the image size, the step is lowered until every projection contracts.
        """
        return self.fbp(residual, step=residual_step(self.geometry, self.n_full, self.curvature))

    def approximate_inverse(self, residual: Tensor) -> Tensor:
        """Filtered backprojection with the filter of ``Geometry.balanced``.

        ``correct`` finds a part n_views / n_full of low frequencies in a round, which all views see; this finds all of
        them, and at high frequencies as much as lies on the measured lines.
        """
        return self.backprojected(balanced_step(self.geometry, self.curvature) * self.geometry.balanced(residual))

    def as_fourier_slice(self, y: Tensor) -> tuple[MaskedTransform, Tensor]:
        return self.geometry.as_fourier_slice(y)


@lru_cache(maxsize=32)
def residual_step(geometry: Geometry, n_full: int, curvature: float = 0.0) -> float:
    """The step of a full scan, full_arc / n_full, or the largest at which A^T filtered A has no eigenvalue above 1.

    The eigenvalue comes from 20 power iterations with the exact matrix, from a fixed start.
    """
    return min(geometry.full_arc / n_full, 1 / _largest(geometry, geometry.filtered, curvature))


@lru_cache(maxsize=32)
def balanced_step(geometry: Geometry, curvature: float = 0.0) -> float:
    """The step of the measured views, or the largest at which A^T balanced A has no eigenvalue above 1."""
    return min(geometry.step, 1 / _largest(geometry, geometry.balanced, curvature))


def _largest(geometry: Geometry, filtered: Callable[[Tensor], Tensor], curvature: float) -> float:
    operator = CTOperator(geometry).with_curvature(curvature)
    x = torch.randn(1, *operator.image_shape, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        x = operator.backprojected(filtered(operator.forward(x / x.norm())))
    return float(x.norm())
