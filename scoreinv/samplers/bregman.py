"""Bregman: plug-and-play half quadratic splitting that remembers which data it has missed, for images of few calls.

From a first image x under a little noise, with nothing remembered (q = 0), at each level of a falling grid

    z = D(x, sigma)
    q = memory (1 - n (data_floor |A|)^2 / |y - A z|^2)+ (q + y - A z)                but for the first and last level
    x = argmin_x |A x - (y + q)|^2 / noise_std^2 + |x - z - relaxation (z - x_before)|^2 / (strength sigma)^2

and the last x, with q = 0 and without relaxation, is the result; one network call a level, no noise after the first.
Data that are exact but for noise, as of images on this grid, allow more: a tenth of the floor, half the last level.

The data that the prior smoothed away are added back to the data of the next level (Bregman iteration: Osher, Burger,
Goldfarb, Xu and Yin 2005, doi:10.1137/040605412), so that it leaves them alone: where it comes to rest, they were
amplified by 1 / (1 - memory). A memory of 1 is the dual variable of ADMM. What n data may miss for the floor's sake,
because pixels are not what was measured, is no fault of the prior's: the share of the missed squares that this could
be is forgotten (the discrepancy principle), all of it where no more is missed. Of what no data hold, each call would
only take one step of the prior: the relaxation makes it longer.

DDS at a low temperature does the first unsaid: it keeps ``temperature`` of x - z, noise or not. But it keeps it also
of what is not measured, where it makes the steps shorter: that is why it takes 50 calls.

Without memory, relaxation and noise this is DPIR. One image, no posterior sample, and off the posterior's mean as
DPIR's is: it denoises what has no noise left.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import spread
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.data_step import proximal
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.sampler import Sampler


class Bregman(Sampler):
    """The best image of 10 to 20 calls where much is missing."""

    label: ClassVar[str] = "Bregman"
    kind: Literal["bregman"] = "bregman"
    version: ClassVar[int] = 3
    exact_share: ClassVar[float] = 0.1
    exact_end: ClassVar[float] = 0.5
    grid: SigmaGrid = Field(SigmaGrid(n_levels=20, sigma_max=0.3, sigma_min=0.08), title="Noise levels")
    data_floor: float = Field(
        1e-3, gt=0, lt=1, description="Data count as noisy by at least so much; exact ones by a tenth."
    )
    memory: float = Field(
        0.8,
        ge=0,
        lt=1,
        description="Of the data that were missed: more is sharper, and wants more calls and less noise.",
    )
    relaxation: float = Field(
        0.8, ge=0, lt=2, description="How much longer than the prior's own step each is, where there are no data."
    )
    first_noise: float = Field(
        0.5, ge=0, le=1, description="Noise of the first image, relative to its level: enough to leave its structures."
    )
    strength: float = Field(1.0, gt=0, description="How far the data may move an image, in units of the level.")
    n_cg: int = Field(
        5, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        first, levels = self.first(problem, noise)
        x = first.x + self.first_noise * first.sigma * noise.normal_like(first.x)
        missed = torch.zeros_like(problem.y)
        for level in levels:
            anchor = denoised = denoiser(x, level.sigma.flatten())
            # The first image's noise is nothing to remember or to go further from, and the result is what y says.
            is_inner = 0 < level.index < len(levels) - 1
            if is_inner:
                residual = problem.residual(denoised)
                missed = self.memory * self._of_the_prior(problem, residual) * (missed + residual)
                anchor = denoised + self.relaxation * (denoised - x)
            data_image = problem.operator.adjoint(problem.y + missed if is_inner else problem.y)
            x = proximal(problem, data_image, anchor, std=self.strength * level.sigma, n_iters=self.n_cg)
            yield Step(level.index, level.of_grid_next, x)

    def _of_the_prior(self, problem: InverseProblem, residual: Tensor) -> Tensor:
        """The share of a residual's squares that the floor does not explain, of each image, (batch, 1, ...).

        Data count where they are not 0: off a mask nothing is missed, and of air next to nothing.
        """
        n_data = problem.y.ne(0).flatten(1).sum(1) * (2 if problem.y.is_complex() else 1)
        explained = n_data * (self.floor_of(problem) * problem.operator.norm()) ** 2
        missed = residual.abs().square().flatten(1).sum(1).clamp_min(torch.finfo(explained.dtype).tiny)
        return spread((1 - explained / missed).clamp_min(0), residual)
