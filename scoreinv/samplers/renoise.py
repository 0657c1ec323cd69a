"""Renoising: how a clean image goes on to the next, lower noise level.

    x = clean + sigma_next temperature (sqrt(1 - e^2) eps + e n)

with the noise eps that was found in the image, and fresh noise n. Its share e is eta, or, in ancestral steps,
eta sqrt(1 - sigma_next^2 / sigma^2): DDIM (Song, Meng and Ermon 2021, arXiv:2010.02502), where with many levels both
ends of eta sample the same, 0 by the probability flow and 1 by the reverse diffusion.

With a temperature below 1 an image carries less noise than its level says, and the network smooths what the data leave
open: the result moves from a sample towards the posterior mean, with no further call. Samples then lie closer together
than those of the posterior. Without fresh noise the temperature acts on what is left at every level: the noise is gone
soon, and the rest is plug-and-play half quadratic splitting of falling strength, which comes nearest to the truth but
stays near its start. ``fresh_above`` joins the two: fresh noise at the first levels, to leave a bad start, and none
below.
"""

from typing import NamedTuple

from pydantic import Field
from torch import Tensor

from scoreinv.noise import Noise
from scoreinv.spec import Spec


class Level(NamedTuple):
    """One step down: from where to where, on the grid and for each image (batch, 1, 1, 1)."""

    index: int  # type: ignore[assignment]
    of_grid: float
    of_grid_next: float
    sigma: Tensor
    sigma_next: Tensor


class Renoise(Spec):
    """How much noise an image keeps from level to level, and how much of it is fresh."""

    eta: float = Field(1.0, ge=0, le=1, description="Share of fresh noise: 0 none, 1 all there can be.")
    temperature: float = Field(
        1.0, gt=0, le=1, description="Noise left in an image, relative to its level: less goes to the posterior mean."
    )
    fresh_above: float = Field(
        0.0, ge=0, description="Noise is fresh at levels of the grid above this one; below all is kept."
    )

    def step(self, clean: Tensor, eps: Tensor, level: Level, noise: Noise, *, is_ancestral: bool = False) -> Tensor:
        """Images at ``level.sigma_next``.

        Args:
            clean: images (batch, n_channels, height, width) without noise: denoised, and pulled towards the data.
            eps: the noise that was found in them, of deviation about 1.
            level: the step.
            noise: the random stream of each image.
            is_ancestral: the share of fresh noise falls with the step.
        """
        size = level.sigma_next * self.temperature
        # Levels are single precision: one that was written down is not quite what it was.
        if self.eta == 0 or level.of_grid <= self.fresh_above * (1 + 1e-6):
            return clean + size * eps
        share: float | Tensor = self.eta
        if is_ancestral:
            share = self.eta * (1 - (level.sigma_next / level.sigma) ** 2).sqrt()
        return clean + size * ((1 - share**2) ** 0.5 * eps + share * noise.normal_like(clean))
