"""DiffPIR: a proximal step on each denoised image, then noise that agrees with its result.

Zhu et al. 2023, "Denoising diffusion models for plug-and-play image restoration", arXiv:2305.08995, in
(x, sigma) space:

    z = argmin_z |A z - y|^2 / 2 + rho |z - D(x, sigma)|^2 / 2,   rho = strength noise_std^2 / sigma^2
    eps = (x - z) / sigma                                         from z, not from the denoised image
    x = z + sigma_next (sqrt(1 - zeta) eps + sqrt(zeta) n)

One network call a level, no gradient through the network; the proximal step by a few conjugate gradient steps. With
strength 1 and data of known noise the samples lie around the posterior's mean; the paper tunes the strength, usually
to 3 to 25, which smooths. They spread less than the posterior: where there are no data, with zeta 1 half of its
variance, with 0.3 from 0.6 to 0.95 of it. A single sample is the nearer to the mean the less it spreads.

Noiseless data count as noisy by ``noise_floor``: without noise the prior would have no weight in z.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.baselines import Direct
from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.data_step import proximal, with_noise_floor
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.start import AnyStart, noisy_start


class DiffPIR(Method):
    """The robust choice for noisy data."""

    label: ClassVar[str] = "DiffPIR"
    kind: Literal["diffpir"] = "diffpir"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=100, sigma_max=1.0, sigma_min=0.01), title="Noise levels")
    start: AnyStart = Field(Direct(), title="Start", description="The first image, under noise of the first level.")
    strength: float = Field(
        1.0, gt=0, description="lambda: weight of the denoised image against data of known noise; the paper tunes it."
    )
    zeta: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Share of fresh noise, as a variance: 1 comes nearest to the mean, 0.3 spreads nearly enough.",
    )
    n_cg: int = Field(
        10, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )
    noise_floor: float = Field(
        3e-3, gt=0, description="Data count as at least so noisy, relative to the norm of A; for noiseless data."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        levels = self.grid.levels()
        floored = with_noise_floor(problem, self.noise_floor)
        data_image = problem.operator.adjoint(problem.y)
        x = noisy_start(self.start, problem, levels[0], noise)
        for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
            denoised = denoiser(x, sigma.expand(len(x)).to(x.device))
            std = float(sigma) / self.strength**0.5
            consistent = proximal(floored, data_image, denoised, std=std, n_iters=self.n_cg)
            eps = (x - consistent) / sigma
            fresh = noise.normal_like(x) if self.zeta > 0 else 0.0
            x = consistent + sigma_next * ((1 - self.zeta) ** 0.5 * eps + self.zeta**0.5 * fresh)
            yield Step(index, float(sigma_next), x)
