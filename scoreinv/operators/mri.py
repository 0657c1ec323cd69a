"""Cartesian single-coil MRI: y = mask F x.

F is the centred orthonormal Fourier transform. Images are real, or complex with two channels. Of real ones
K(-k) = conj K(k): a measured entry also determines its mirror. Song et al. 2022 (arXiv:2111.08005) put the measured
entries into the spectrum and take the real part, which averages each with its mirror and so undoes half of every entry
whose mirror was not measured. Here these entries count twice, which makes ``correct`` exact; ``paper_faithful`` leaves
that out.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.contract import ImageContract, Modality
from scoreinv.errors import UserError
from scoreinv.measurement import NO_CONTEXT, Context, Measured, MeasurementSpec, PoissonNoise
from scoreinv.operators import masks
from scoreinv.operators.fourier import PLANE, as_channels, as_complex, fft2c, ifft2c, mirror, resample_spectrum
from scoreinv.operators.linear import LinearOperator, MaskedTransform
from scoreinv.operators.pixels import SCANNER, kept_by_means
from scoreinv.spec import MAX_SEED

TELLS_MORE = 1.2
"""How many times as many columns other ones must tell of to be worth a word."""

MaskPattern = Literal["paper", "equispaced", "random", "variable_density"]


class CartesianMRI(MeasurementSpec):
    """Undersampled Cartesian MRI: whole columns of k-space, one coil."""

    direct_name: ClassVar[str] = "zero-filled"
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
        columns = "" if self.pattern == "paper" else f", {self.pattern.replace('_', ' ')} columns"
        return f"MRI, {self.acceleration:g} times faster{columns}"

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "CartesianMRIOperator":
        return CartesianMRIOperator(self.mask(size), size, n_channels=n_channels, use_symmetry=not self.paper_faithful)

    def matched(self, operator: LinearOperator, measured: Measured) -> tuple[LinearOperator, Measured]:
        """The data of pixels' means; of a scanner's as they are: its own images are samples.

        Noise is less at high frequencies then; it counts as white, with the same mean square.
        """
        assert isinstance(operator, CartesianMRIOperator)
        if measured.fine_factor in (1, SCANNER):
            return operator, measured
        kept = kept_by_means(operator.image_shape[-1], measured.fine_factor).to(measured.y.device)
        kept = (kept * kept[:, None]).to(measured.y.real.dtype)
        noise_kept = kept[operator.mask[0]].square().mean().sqrt()
        return operator, measured._replace(y=measured.y * kept, noise_std=measured.noise_std * noise_kept)

    def notes(self, image: ImageContract) -> list[str]:
        """Columns that mirror each other tell the same of a real image: whether other columns would tell more."""
        if image.n_channels > 1 or self.pattern == "equispaced" or self.acceleration > image.size:
            return []
        other = self.model_copy(update={"pattern": "equispaced", "n_acs": None})
        (n, ours), (_, theirs) = (_told(spec.mask(image.size)) for spec in (self, other))
        if theirs < TELLS_MORE * ours:
            return []
        return [
            f"columns that mirror each other tell the same of a real image: the {n} that are acquired tell of {ours}, "
            f"as many with pattern=equispaced would of {theirs}"
        ]

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


def _told(mask: Tensor) -> tuple[int, int]:
    """How many columns are acquired, and how many these and their mirrors are."""
    return int(mask.sum()), int((mask | mirror(mask[None])[0]).sum())


class CartesianMRIOperator(MaskedTransform):
    """y = mask F x: images (batch, 1 or 2, H, W) to k-space (batch, 1, H, W), complex, zero off the mask.

    The second axis of the data counts coils.
    """

    direct_name: ClassVar[str] = "zero-filled"
    is_complex = True

    def __init__(self, mask: Tensor, size: int, *, n_channels: int = 1, use_symmetry: bool = True) -> None:
        """Take a bool mask that broadcasts to (size, size), such as one of columns (size,).

        Args:
            mask: true where k-space is acquired.
            size: pixels along each side.
            n_channels: 1 for real images, 2 for complex ones.
            use_symmetry: of the spectra of real images, in ``correct``.

        Raises:
            UserError: if the images have more channels.
        """
        if n_channels > 2:
            raise UserError(f"MRI images have 1 channel (real) or 2 (complex), not {n_channels}: set image.n_channels")
        self.image_shape = (n_channels, size, size)
        self.data_shape = (1, size, size)
        self.mask = mask.expand(self.data_shape).clone()
        seen = self.mask.float() + mirror(self.mask).float()
        self.response = _half_response(seen / 2)
        is_symmetric = use_symmetry and n_channels == 1
        self.weights = 2 / seen.clamp_min(1) if is_symmetric else torch.ones_like(seen)

    def transform(self, x: Tensor) -> Tensor:
        """T x: all of k-space (batch, 1, H, W)."""
        return fft2c(as_complex(x))

    def inverse_transform(self, kspace: Tensor) -> Tensor:
        """T^-1 k: the image (batch, n_channels, H, W), of which a real one is the real part."""
        return as_channels(ifft2c(kspace), self.image_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inverse_transform(y * self.mask)

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x; of a real image by real transforms.

        It is a real filter then, with the mean of the mask and its mirror as response. Where whole columns are
        acquired, as the response has one row tells, the transforms along them cancel.
        """
        if x.shape[1] == 2:
            return super().normal(x)
        axes = PLANE if self.response.shape[-2] > 1 else PLANE[1:]
        filtered: Tensor = torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * self.response, x.shape[axes[0] :], dim=axes)
        return filtered

    def simulate(self, fine: Tensor) -> Tensor:
        """k-space of the finer images, cut to the frequencies of this operator and masked."""
        return resample_spectrum(self.transform(fine), self.image_shape[-1]) * self.mask

    def correct(self, residual: Tensor) -> Tensor:
        """F^-1 (weights mask r); of real images an entry weighs 2 where its mirror is not measured, else 1.

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
