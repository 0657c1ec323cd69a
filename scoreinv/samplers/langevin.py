"""Annealed Langevin dynamics with the gradient of the data's likelihood.

After Jalal et al. 2021 (arXiv:2108.01368), as the baseline of Song, Shen, Xing and Ermon 2022 (arXiv:2111.08005): at
each level sigma some steps of one fixed length,

    e = 2 (snr sigma)^2
    x = x + e ((D(x, sigma) - x) / sigma^2 + gradient of log p(y | x)) + sqrt(2 e) n          see ``likelihood``

with y as it is, and at the end one Tweedie step of the prior alone; n_steps n_levels + 1 network calls. Other than
released it works for every operator, knows the noise of the data, and no step overshoots. The paper has rate 0.713 and
snr 0.212 for BraTS. (The code of Jalal et al. scales the gradient to the norm of the score instead.)

At the last levels this is Langevin sampling of the posterior itself, but what varies much more than sigma no longer
relaxes there: it keeps the variance of the level where it froze. The noise of x lags behind: its variance exceeds
sigma^2 by a share of about ln(sigma / sigma_next) / (2 n_steps snr^2), 5 % in the paper's setting. What the data pin
down to less than the last sigma keeps part of the noise of that level.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser, score
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.likelihood import noisy_likelihood
from scoreinv.samplers.predictor_corrector import PAPER_GRID
from scoreinv.samplers.sampler import Sampler

ANNEALED_GRID = PAPER_GRID.model_copy(update={"n_levels": 700})
"""The schedule of the annealed samplers in Song et al. 2022."""


class Langevin(Sampler):
    """The classical sampler: correctors only, level after level."""

    label: ClassVar[str] = "Langevin"
    kind: Literal["langevin"] = "langevin"
    grid: SigmaGrid = Field(ANNEALED_GRID, title="Noise levels")
    data_floor: float = Field(1e-3, gt=0, lt=1, description="Data count as noisy by at least so much.")
    n_steps: int = Field(3, ge=1, le=100, title="Langevin steps", description="Langevin steps per level.")
    rate: float = Field(0.5, gt=0, description="Deviation of the data around the noisy image, in units of sigma.")
    snr: float = Field(0.3, gt=0, lt=1, title="SNR", description="Signal-to-noise ratio of a step.")
    n_cg: int = Field(
        5, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per network call."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels * self.n_steps + 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        likelihood = noisy_likelihood(problem, rate=self.rate, n_cg=self.n_cg)
        x, levels = self.begin(problem, noise)
        for level in levels:
            conditional = likelihood.condition(denoiser, step=langevin_step(level.sigma, snr=self.snr))
            for _ in range(self.n_steps):
                x = anneal(conditional, x, level.sigma, noise, snr=self.snr)
            yield Step(level.index, level.of_grid, x)
        yield Step(self.grid.n_levels, 0.0, denoiser(x, levels[-1].sigma.flatten()))


def langevin_step(sigma: Tensor, *, snr: float) -> Tensor:
    """The length of an annealed Langevin step, 2 (snr sigma)^2."""
    return 2 * (snr * sigma) ** 2


def anneal(denoiser: Denoiser, x: Tensor, sigma: Tensor, noise: Noise, *, snr: float) -> Tensor:
    """One Langevin step at a fixed noise level, of a length that depends on the level alone."""
    step = langevin_step(sigma, snr=snr)
    return x + step * score(denoiser, x, sigma) + (2 * step).sqrt() * noise.normal_like(x)
