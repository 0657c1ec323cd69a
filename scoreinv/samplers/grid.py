"""Noise levels: which ones a sampler visits, from large to small."""

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.spec import Spec


class SigmaGrid(Spec):
    """Decreasing noise levels, one network call (or a fixed number of them) each.

    ``power``: (sigma_max^(1/7) + i/(n-1) (sigma_min^(1/7) - sigma_max^(1/7)))^7 (Karras et al. 2022, eq. 5);
    ``geometric``: evenly spaced in the logarithm, the VE schedule of Song et al.
    """

    n_levels: int = Field(50, ge=1, le=100_000, description="Network calls, or a fixed multiple of them.")
    sigma_max: float = Field(3.0, gt=0, description="The first noise level; image values are about 0 to 1.")
    sigma_min: float = Field(0.01, ge=1e-6, description="The last noise level before 0.")
    spacing: Literal["power", "geometric"] = "power"

    @model_validator(mode="after")
    def _ordered(self) -> "SigmaGrid":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min={self.sigma_min} must be below sigma_max={self.sigma_max}")
        return self

    def levels(self) -> Tensor:
        """The n_levels noise levels and a final 0, (n_levels + 1,)."""
        ramp = torch.linspace(0, 1, self.n_levels, dtype=torch.float64)
        if self.spacing == "geometric":
            levels = self.sigma_max * (self.sigma_min / self.sigma_max) ** ramp
        else:
            low, high = self.sigma_min ** (1 / 7), self.sigma_max ** (1 / 7)
            levels = (high + ramp * (low - high)) ** 7
        return torch.cat([levels, torch.zeros(1, dtype=torch.float64)]).float()
