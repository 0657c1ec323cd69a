"""Which noise levels a score model is trained on, and with which weight.

The loss of one image is weight(sigma) |D(x0 + sigma n, sigma) - x0|^2. With the weight 1/sigma^2 it is
the denoising score matching loss of Song et al., (sigma s + n)^2 (Vincent 2011).
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.sde import VE, AnySDE
from scoreinv.spec import Spec


class LogNormalLevels(Spec):
    """ln sigma ~ N(mean, std^2) with a share spread evenly over [sigma_min, sigma_max] in the logarithm.

    After Karras et al. 2022; the even share keeps the extremes, where a sampler starts and ends, trained.
    Every level weighs (sigma^2 + sigma_data^2) / (sigma sigma_data)^2, so that an untrained EDM network
    has loss 1 everywhere where sigma_data is the preconditioning's and the images'.
    """

    kind: Literal["log_normal"] = "log_normal"
    mean: float = Field(-1.8, description="Mean of ln sigma.")
    std: float = Field(1.4, gt=0)
    even_share: float = Field(0.2, ge=0, le=1)
    sigma_min: float = Field(0.005, ge=1e-6)
    sigma_max: float = Field(40.0, gt=0)
    sigma_data: float = Field(0.25, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> "LogNormalLevels":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} must be below sigma_max={self.sigma_max}")
        return self

    def draw(self, uniform: Tensor) -> Tensor:
        """Noise levels (batch,) from evenly spread uniform draws (batch,) in (0, 1)."""
        even = self.sigma_min * (self.sigma_max / self.sigma_min) ** (uniform / max(self.even_share, 1e-9))
        rest = (uniform - self.even_share) / max(1 - self.even_share, 1e-9)
        normal = torch.special.ndtri(rest.clamp(1e-4, 1 - 1e-4))
        central = torch.exp(self.mean + self.std * normal).clamp(self.sigma_min, self.sigma_max)
        return torch.where(uniform < self.even_share, even, central)

    def weight(self, sigma: Tensor) -> Tensor:
        """Factor of the squared error, (batch,)."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2


class SDELevels(Spec):
    """t ~ U(eps, 1) of an SDE, weight 1/sigma^2: the loss of the paper (Song et al. 2022; method of 2021)."""

    kind: Literal["sde"] = "sde"
    sde: AnySDE = VE()
    eps: float = Field(1e-5, gt=0, lt=1)

    @property
    def sigma_min(self) -> float:
        return float(self.sde.sigma(torch.tensor(self.eps)))

    @property
    def sigma_max(self) -> float:
        return float(self.sde.sigma(torch.tensor(1.0)))

    def draw(self, uniform: Tensor) -> Tensor:
        """Noise levels (batch,) from evenly spread uniform draws (batch,) in (0, 1)."""
        return self.sde.sigma(self.eps + uniform * (1 - self.eps))

    def weight(self, sigma: Tensor) -> Tensor:
        """Factor of the squared error, (batch,)."""
        return 1 / sigma**2


AnyLevels = Annotated[LogNormalLevels | SDELevels, Field(discriminator="kind")]


def stratified(n: int, generator: torch.Generator) -> Tensor:
    """n draws, each uniform in (0, 1), that together cover the interval evenly, in random order."""
    offset = torch.rand(n, generator=generator)
    return ((torch.randperm(n, generator=generator) + offset) / n).clamp(1e-6, 1 - 1e-6)
