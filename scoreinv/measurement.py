"""Measurements: which operator, with which noise; and how data are simulated from images.

What is known of a slice's data is a ``Measured``: the data, their noise, and what its operator needs of the slice. Data
that were simulated and data of a scanner are the same from there on.

Simulation may start from images on a finer grid than the reconstruction's, so that the data are not
made by the operator that later inverts them (the "inverse crime").
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.contract import ImageContract, Modality
from scoreinv.errors import UserError
from scoreinv.noise import Noise
from scoreinv.spec import Spec

if TYPE_CHECKING:  # the operators' specs import this module
    from scoreinv.operators.linear import LinearOperator

Context = Mapping[str, Tensor]
"""What an operator needs of each slice, by name: a mask, coil sensitivities, the trace of metal; (batch, ...) each."""

NO_CONTEXT: Context = MappingProxyType({})


class Measured(NamedTuple):
    """What is known of a batch of slices.

    Attributes:
        y: the data (batch, *data_shape).
        noise_std: of the data, per real component: of each slice (batch,), or of each of its numbers
            (batch, *data_shape).
        context: what the operator needs of each slice.
        fine_factor: how many times finer than the images to find is what was measured: 1 where data were simulated from
            such images, ``pixels.SCANNER`` where nobody knows of pixels.
    """

    y: Tensor
    noise_std: Tensor
    context: Context = NO_CONTEXT
    fine_factor: float = 1.0

    def part(self, places: Tensor) -> "Measured":
        """Of the slices in some places of the batch."""
        chosen = {name: value[places] for name, value in self.context.items()}
        return self._replace(y=self.y[places], noise_std=self.noise_std[places], context=chosen)

    def to(self, device: torch.device) -> "Measured":
        """On a device."""
        moved = {name: value.to(device) for name, value in self.context.items()}
        return self._replace(y=self.y.to(device), noise_std=self.noise_std.to(device), context=moved)


class Noiseless(Spec):
    """No measurement noise."""

    kind: Literal["none"] = "none"
    is_per_ray: ClassVar[bool] = False

    def std(self, y: Tensor, contract: ImageContract) -> Tensor:
        """The noise of data, per real component, as their ``y`` alone tell; in the form of ``Measured.noise_std``."""
        return y.real.new_zeros(len(y))

    def apply(self, y: Tensor, contract: ImageContract, noise: Noise) -> Tensor:
        """Noisy data of noiseless ones."""
        return y


class GaussianNoise(Spec):
    """White Gaussian noise of the data, complex where the data are."""

    kind: Literal["gaussian"] = "gaussian"
    is_per_ray: ClassVar[bool] = False
    noise_std: float = Field(gt=0, description="Standard deviation of y, per real component, in the units of y.")

    def std(self, y: Tensor, contract: ImageContract) -> Tensor:
        """As ``Noiseless.std``: the same for all."""
        return y.real.new_full((len(y),), self.noise_std)

    def apply(self, y: Tensor, contract: ImageContract, noise: Noise) -> Tensor:
        """Noisy data of noiseless ones."""
        return y + self.noise_std * noise.normal_like(y)


class PoissonNoise(Spec):
    """Counting noise of X-ray photons: counts ~ Poisson(n_photons exp(-attenuation)), y = -log(counts / n_photons).

    Rays without a single photon count as one. The noise of a measured line integral p has the variance
    exp(p) / n_photons = 1 / counts (first order), and 1 at most: behind metal there is nothing left to vary. It is
    taken from the counts themselves, as for a scanner, whose noiseless data nobody has.
    """

    kind: Literal["poisson"] = "poisson"
    version: ClassVar[int] = 2
    is_per_ray: ClassVar[bool] = True
    n_photons: float = Field(ge=10, description="Incident photons per ray and detector bin.")

    def std(self, y: Tensor, contract: ImageContract) -> Tensor:
        """As ``Noiseless.std``, of every ray: (batch, *data_shape)."""
        scale = contract.attenuation_per_pixel()
        return torch.exp(y * scale - math.log(self.n_photons)).clamp_max(1).sqrt() / scale

    def apply(self, y: Tensor, contract: ImageContract, noise: Noise) -> Tensor:
        """Noisy data of noiseless ones."""
        scale = contract.attenuation_per_pixel()
        counts = noise.poisson(self.n_photons * torch.exp(-y * scale))
        return -torch.log(counts.clamp_min(1) / self.n_photons) / scale


AnyNoise = Annotated[Noiseless | GaussianNoise | PoissonNoise, Field(discriminator="kind")]


class MeasurementSpec(Spec):
    """What is measured of every image of a data set."""

    direct_name: ClassVar[str] = "direct"
    """What people call the one-step reconstruction of such data."""
    is_linear: ClassVar[bool] = True
    """Whether noiseless data of images on the operator's grid are what the operator makes of them."""
    noise: AnyNoise = Field(Noiseless(), title="Measurement noise")

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """Which images can be measured so."""

    @abstractmethod
    def title(self) -> str:
        """The measurement in a few words, for headings."""

    @abstractmethod
    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "LinearOperator":
        """The operator on images (batch, n_channels, size, size).

        Args:
            size: pixels along each side.
            context: of the slices of the batch, as ``context`` draws it or a scanner gives it.
            n_channels: of the images.
        """

    def context(self, size: int, noise: Noise) -> Context:
        """What a simulation draws for each of the slices that ``noise`` was opened for; here nothing."""
        return NO_CONTEXT

    def measured(self, images: Tensor, contract: ImageContract, noise: Noise) -> Measured:
        """What is known of slices whose images are given: here the operator's data, under noise.

        Override where data are not linear in the images (``is_linear`` says so), or where contexts are found in data
        (as names and shapes they stay those of ``context``).

        Args:
            images: (batch, n_channels, height, width), on the contract's grid or finer by a whole factor.
            contract: of the images on the coarser grid.
            noise: streams of the slices.
        """
        context = self.context(contract.size, noise.of("context"))
        operator = self.operator(contract.size, context, n_channels=contract.n_channels).to(images.device)
        clean = operator.forward(images) if images.shape[-1] == contract.size else operator.simulate(images)
        y = self.noise.apply(clean, contract, noise.of("measurement"))
        return Measured(y, self.noise.std(y, contract), context)

    def matched(self, operator: "LinearOperator", measured: Measured) -> tuple["LinearOperator", Measured]:
        """The operator and the data as they belong to images that hold means over pixels; here as they are.

        Override where data of finer images are more than data of these means (``operators/pixels.py``).

        Args:
            operator: as ``operator`` makes it, on the device of the data.
            measured: its data.
        """
        return operator, measured

    def notes(self, image: ImageContract) -> list[str]:
        """What is to be known of such data before they are trusted, in sentences; here nothing."""
        return []

    def scored(self, context: Context) -> Tensor | None:
        """Which pixels count when images are compared with the truth, bool (batch, 1, height, width); None: all."""
        return None


def simulate(spec: MeasurementSpec, images: Tensor, contract: ImageContract, noise: Noise) -> Measured:
    """Data of images (batch, n_channels, height, width), on the contract's grid or finer by a whole factor.

    The noise is that of measurements, whatever purpose ``noise`` was opened for: a sampler may be given the same.

    Raises:
        ValueError: if the images are of another modality, or their size is not a multiple of the contract's.
    """
    if spec.modality != contract.modality:
        raise UserError(f"a {spec.modality} measurement cannot be made of {contract.modality} images")
    factor, rest = divmod(images.shape[-1], contract.size)
    if rest or factor < 1:
        raise UserError(f"images of {images.shape[-1]} pixels cannot simulate data for {contract.size} pixels")
    return spec.measured(images, contract, noise)._replace(fine_factor=factor)
