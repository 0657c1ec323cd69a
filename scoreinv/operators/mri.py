"""Cartesian single-coil MRI of real images: y = mask F x.

F is the centred orthonormal Fourier transform. Because images are real, K(-k) = conj K(k): a measured
entry also determines its mirror. Song et al. 2022 (arXiv:2111.08005) put the measured entries into the
spectrum and take the real part, which averages each with its mirror and so undoes half of every entry
whose mirror was not measured. Here these entries count twice, which makes ``correct`` exact;
``paper_faithful`` leaves that out.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.contract import Modality
from scoreinv.errors import UserError
from scoreinv.measurement import MeasurementSpec, PoissonNoise
from scoreinv.operators import masks
from scoreinv.operators.fourier import PLANE, fft2c, ifft2c, mirror, resample_spectrum
from scoreinv.operators.linear import MaskedTransform
from scoreinv.spec import MAX_SEED

MaskPattern = Literal["paper", "equispaced", "random", "variable_density"]


class CartesianMRI(MeasurementSpec):
    """Undersampled Cartesian MRI: whole columns of k-space, one coil."""

    kind: Literal["cartesian_mri"] = "cartesian_mri"
    acceleration: float = Field(8.0, ge=1, description="All columns over acquired columns.")
    pattern: MaskPattern = Field("paper", description="How the columns are chosen; paper: Song et al. 2022.")
    n_acs: int | None = Field(
        None,
        ge=1,
        title="Central columns",
        description="So many are always acquired; the pattern's rule if not set.",
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Of the random patterns; one mask serves all images.")
    paper_faithful: bool = Field(False, description="Project without conjugate symmetry, as Song et al. 2022 released.")

    @model_validator(mode="after")
    def _noise_is_no_photons(self) -> "CartesianMRI":
        if isinstance(self.noise, PoissonNoise):
            raise ValueError("noise.kind='poisson' counts photons, which are for CT: take gaussian, or none")
        return self

    @property
    def modality(self) -> Modality:
        return "mri"

    def title(self) -> str:
        return f"MRI, {self.acceleration:g} times faster"

    def operator(self, size: int) -> "CartesianMRIOperator":
        return CartesianMRIOperator(self.mask(size), size, use_symmetry=not self.paper_faithful)

    def mask(self, size: int) -> Tensor:
        """The acquired columns, bool (size,).

        Raises:
            ValueError: if the columns are fewer than the acceleration asks for, or than ``n_acs``.
        """
        if self.acceleration > size:
            raise UserError(f"acceleration={self.acceleration:g} is more than the {size} columns there are: lower it")
        n_keep = masks.n_columns(size, self.acceleration)
        if n_keep == size:
            return torch.ones(size, dtype=torch.bool)
        if self.pattern == "paper":
            return masks.paper_mask(size, n_keep, n_acs=self.n_acs)
        n_acs = masks.default_n_acs(size, self.acceleration) if self.n_acs is None else self.n_acs
        if self.pattern == "equispaced":
            return masks.equispaced_mask(size, n_keep, n_acs=n_acs)
        draw = masks.random_mask if self.pattern == "random" else masks.variable_density_mask
        return draw(size, n_keep, n_acs=n_acs, seed=self.seed)

    def simulate_clean(self, fine: Tensor, size: int) -> Tensor:
        """k-space of the finer images, cut to the frequencies of ``operator(size)`` and masked."""
        return resample_spectrum(fft2c(fine), size) * self.mask(size).to(fine.device)


class CartesianMRIOperator(MaskedTransform):
    """y = mask F x: real images (batch, 1, H, W) to k-space (batch, 1, H, W), complex, zero off the mask.

    The second axis of the data counts coils.
    """

    direct_name: ClassVar[str] = "zero-filled"

    def __init__(self, mask: Tensor, size: int, *, use_symmetry: bool = True) -> None:
        """Take a bool mask that broadcasts to (size, size), such as one of columns (size,)."""
        self.image_shape = (1, size, size)
        self.data_shape = (1, size, size)
        self.mask = mask.expand(self.data_shape).clone()
        seen = self.mask.float() + mirror(self.mask).float()
        self.response = _half_response(seen / 2)
        self.weights = 2 / seen.clamp_min(1) if use_symmetry else torch.ones_like(seen)

    def transform(self, x: Tensor) -> Tensor:
        """T x: all of k-space (batch, 1, H, W)."""
        return fft2c(x)

    def inverse_transform(self, kspace: Tensor) -> Tensor:
        """T^-1 k: the real part of the image (batch, 1, H, W)."""
        return ifft2c(kspace).real

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inverse_transform(y * self.mask)

    def normal(self, x: Tensor) -> Tensor:
        """Re F^-1 mask F x, by real transforms: a real filter, with the mean of the mask and its mirror as response.

        Where whole columns are acquired, as the response has one row tells, the transforms along them cancel.
        """
        axes = PLANE if self.response.shape[-2] > 1 else PLANE[1:]
        filtered: Tensor = torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * self.response, x.shape[axes[0] :], dim=axes)
        return filtered

    def correct(self, residual: Tensor) -> Tensor:
        """Re F^-1 (weights mask r): an entry weighs 2 where its mirror is not measured, else 1.

        This is the pseudo-inverse of A: entries that are measured together with their mirror are
        averaged, the mirror of the others is filled in as the conjugate.
        """
        return self.adjoint(residual * self.weights)


def _half_response(symmetric: Tensor) -> Tensor:
    """A filter that treats mirrored frequencies alike (1, H, W), as ``torch.fft.rfft2`` orders them, (1, H, W//2 + 1).

    Its rows are one where all are the same.
    """
    half = torch.fft.ifftshift(symmetric, PLANE)[..., : symmetric.shape[-1] // 2 + 1]
    row: Tensor = half[:, :1]
    return row if torch.equal(row.expand_as(half), half) else half
