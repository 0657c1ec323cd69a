"""Measurements: which operator, with which noise; and how data are simulated from images.

Simulation may start from images on a finer grid than the reconstruction's, so that the data are not
made by the operator that later inverts them (the "inverse crime").
"""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.contract import ImageContract, Modality
from scoreinv.errors import UserError
from scoreinv.noise import Noise
from scoreinv.spec import Spec

if TYPE_CHECKING:  # the operators' specs import this module
    from scoreinv.operators.linear import LinearOperator


class Noiseless(Spec):
    """No measurement noise."""

    kind: Literal["none"] = "none"

    def std(self, y: Tensor, contract: ImageContract) -> Tensor:
        """The noise of each image's data (batch,), per real component, from its noiseless data ``y`` alone."""
        return y.real.new_zeros(len(y))

    def apply(self, y: Tensor, contract: ImageContract, noise: Noise) -> Tensor:
        """Noisy data of noiseless ones."""
        return y


class GaussianNoise(Spec):
    """White Gaussian noise of the data, complex where the data are."""

    kind: Literal["gaussian"] = "gaussian"
    noise_std: float = Field(gt=0, description="Standard deviation of y, per real component, in the units of y.")

    def std(self, y: Tensor, contract: ImageContract) -> Tensor:
        """As ``Noiseless.std``: the same for all."""
        return y.real.new_full((len(y),), self.noise_std)

    def apply(self, y: Tensor, contract: ImageContract, noise: Noise) -> Tensor:
        """Noisy data of noiseless ones."""
        return y + self.noise_std * noise.normal_like(y)


class PoissonNoise(Spec):
    """Counting noise of X-ray photons: counts ~ Poisson(n_photons exp(-attenuation)), y = -log(counts / n_photons).

    Rays without a single photon count as one. The noise of a line integral p has the variance exp(p) / n_photons
    (first order), and 1 at most: behind metal there is nothing left to vary.
    """

    kind: Literal["poisson"] = "poisson"
    n_photons: float = Field(ge=10, description="Incident photons per ray and detector bin.")

    def std(self, y: Tensor, contract: ImageContract) -> Tensor:
        """As ``Noiseless.std``: the root of the mean variance over an image's rays."""
        scale = contract.attenuation_per_pixel()
        variances = torch.exp(y * scale - math.log(self.n_photons)).clamp_max(1)
        return variances.flatten(1).mean(1).sqrt() / scale

    def apply(self, y: Tensor, contract: ImageContract, noise: Noise) -> Tensor:
        """Noisy data of noiseless ones."""
        scale = contract.attenuation_per_pixel()
        counts = noise.poisson(self.n_photons * torch.exp(-y * scale))
        return -torch.log(counts.clamp_min(1) / self.n_photons) / scale


AnyNoise = Annotated[Noiseless | GaussianNoise | PoissonNoise, Field(discriminator="kind")]


class MeasurementSpec(Spec):
    """What is measured of every image of a data set."""

    noise: AnyNoise = Field(Noiseless(), title="Measurement noise")

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """Which images can be measured so."""

    @abstractmethod
    def title(self) -> str:
        """The measurement in a few words, for headings."""

    @abstractmethod
    def operator(self, size: int) -> "LinearOperator":
        """The operator on images of size x size pixels."""

    @abstractmethod
    def simulate_clean(self, fine: Tensor, size: int) -> Tensor:
        """Noiseless data, on the geometry of ``operator(size)``, of images whose grid is a whole multiple finer."""


class Measured(NamedTuple):
    """What is known of a batch: data (batch, *data_shape), and the noise of each image's data (batch,)."""

    y: Tensor
    noise_std: Tensor


def simulate(spec: MeasurementSpec, images: Tensor, contract: ImageContract, noise: Noise) -> Measured:
    """Data of images (batch, 1, height, width), which may be finer than the contract's grid by a whole factor.

    The noise is that of measurements, whatever purpose ``noise`` was opened for: a sampler may be given the same.

    Raises:
        ValueError: if the images are of another modality, or their size is not a multiple of the contract's.
    """
    if spec.modality != contract.modality:
        raise UserError(f"a {spec.modality} measurement cannot be made of {contract.modality} images")
    factor, rest = divmod(images.shape[-1], contract.size)
    if rest or factor < 1:
        raise UserError(f"images of {images.shape[-1]} pixels cannot simulate data for {contract.size} pixels")
    operator = spec.operator(contract.size).to(images.device)
    clean = operator.forward(images) if factor == 1 else spec.simulate_clean(images, contract.size)
    return Measured(spec.noise.apply(clean, contract, noise.of("measurement")), spec.noise.std(clean, contract))
