"""Annealed Langevin dynamics with the projection of Algorithm 2: "ALD + ours" of Song et al. 2022 (arXiv:2111.08005).

At each level sigma some Langevin steps of the prior alone, with a projection before each as in Algorithm 2:

    y_t = y + sigma A n;  x = x + strength T^-1 mask (y_t - A x)
    e = 2 (snr sigma)^2;  x = x + e (D(x, sigma) - x) / sigma^2 + sqrt(2 e) n

and at the end one Tweedie step and one projection of the same strength; n_steps n_levels + 1 network calls.

The released code projects once per level, before the first step. That is too seldom for CT, where a projection corrects
only a share of what is measured: in a small example its error was that of FBP or larger, this way an eighth.

As in Algorithm 2 the data count as noiseless; for noisy ones lower the strength.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.langevin import ANNEALED_GRID, anneal
from scoreinv.samplers.projection import Transform, masked_transform, project_noisy
from scoreinv.samplers.sampler import Sampler


class LangevinProjection(Sampler):
    """The paper's projection in the classical sampler; needs an operator with an invertible transform."""

    label: ClassVar[str] = "ALD + projection"
    is_weighted: ClassVar[bool] = False
    kind: Literal["langevin_projection"] = "langevin_projection"
    grid: SigmaGrid = Field(ANNEALED_GRID, title="Noise levels")
    n_steps: int = Field(
        3, ge=1, le=100, title="Langevin steps", description="Langevin steps per level, a projection before each."
    )
    strength: float = Field(1.0, ge=0, le=1, description="lambda: 1 replaces the data, 0 ignores them.")
    snr: float = Field(0.386, gt=0, lt=1, title="SNR", description="Signal-to-noise ratio of a step.")
    transform: Transform = Field(
        "residual", description="CT only: full-view FBP of the residual, or the paper's Fourier-slice grid."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels * self.n_steps + 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        operator, y = masked_transform(problem, self.transform)
        x, levels = self.begin(problem, noise)
        for level in levels:
            for _ in range(self.n_steps):
                x = project_noisy(operator, y, x, level.sigma, noise, strength=self.strength)
                x = anneal(denoiser, x, level.sigma, noise, snr=self.snr)
            yield Step(level.index, level.of_grid, x)
        x = denoiser(x, levels[-1].sigma.flatten())
        yield Step(self.grid.n_levels, 0.0, operator.project(x, y, strength=self.strength))
