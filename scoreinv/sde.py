"""Stochastic differential equations that turn images into noise (Song et al. 2021, arXiv:2011.13456).

With t in [0, 1], the noisy image is x_t = scale(t) (x_0 + sigma(t) n), n ~ N(0, I), and

    dx = drift(x, t) dt + diffusion(t) dw.

VE: scale = 1, sigma(t) = sigma_min (sigma_max / sigma_min)^t.
VP: beta(t) = beta_min + t (beta_max - beta_min), scale(t) = exp(-1/2 int_0^t beta), sigma^2 = 1/scale^2 - 1.

Samplers never see any of this: they speak sigma, and a score model hides the rest.
"""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.spec import Spec


class SDE(Spec):
    """A forward process; all arguments and results are tensors of times."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the noise relative to the image, at time t."""

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        """The time at which the noise level is sigma: the inverse of ``sigma``."""

    @abstractmethod
    def scale(self, t: Tensor) -> Tensor:
        """Factor by which image and noise are scaled at time t."""

    @abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Drift f(x, t), the shape of x (batch, ...), with t of shape (batch,)."""

    @abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """Diffusion coefficient g(t)."""


class VE(SDE):
    """Variance exploding: noise is added, the image keeps its scale. Used in all of Song et al. 2022."""

    kind: Literal["ve"] = "ve"
    sigma_min: float = Field(0.01, gt=0)
    sigma_max: float = Field(128.0, gt=0, description="About the largest distance between two training images.")

    @model_validator(mode="after")
    def _ordered(self) -> "VE":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} must be below sigma_max={self.sigma_max}")
        return self

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time(self, sigma: Tensor) -> Tensor:
        return torch.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))


class VP(SDE):
    """Variance preserving: the image fades while noise comes in (the DDPM limit)."""

    kind: Literal["vp"] = "vp"
    beta_min: float = Field(0.1, gt=0)
    beta_max: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "VP":
        if self.beta_min >= self.beta_max:
            raise ValueError(f"beta_min={self.beta_min} must be below beta_max={self.beta_max}")
        return self

    def _log_scale(self, t: Tensor) -> Tensor:
        return -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(-2 * self._log_scale(t)).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        slope = self.beta_max - self.beta_min
        integral = torch.log1p(sigma**2)
        return 2 * integral / (torch.sqrt(self.beta_min**2 + 2 * slope * integral) + self.beta_min)

    def scale(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_scale(t))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return -0.5 * self._beta(t).view(-1, *[1] * (x.ndim - 1)) * x

    def diffusion(self, t: Tensor) -> Tensor:
        return self._beta(t).sqrt()

    def _beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)


AnySDE = Annotated[VE | VP, Field(discriminator="kind")]
