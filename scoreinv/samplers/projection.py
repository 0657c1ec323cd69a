"""Algorithm 2 of Song, Shen, Xing and Ermon 2022 (arXiv:2111.08005): a projection before each update.

At each level of the predictor-corrector sampler, twice (before the corrector and before the predictor),

    y_t = y + sigma A n                     noise of the image, pushed through A: not white in the data
    x   = x + strength T^-1 mask (y_t - A x)

and at the end one Tweedie step and one projection with strength 1. 2 n_levels + 1 network calls.

It is not an exact posterior sampler: without the corrector it ignores about a third of what measured
entries tell of unmeasured ones, whatever the number of levels.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal, cast

from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.operators.ct import ParallelBeam
from scoreinv.operators.linear import MaskedTransform
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.predictor_corrector import PAPER_GRID, correct, predict


class Projection(Method):
    """The paper's sampler; needs an operator with an invertible transform."""

    label: ClassVar[str] = "Algorithm 2"
    kind: Literal["projection"] = "projection"
    grid: SigmaGrid = Field(PAPER_GRID, title="Noise levels")
    strength: float = Field(0.841, ge=0, le=1, description="lambda: 1 replaces the data, 0 ignores them.")
    snr: float = Field(
        0.246, ge=0, lt=1, title="SNR", description="Of the corrector; 0 drops it, which biases the result."
    )
    transform: Literal["residual", "fourier_slice"] = Field(
        "residual", description="CT only: full-view FBP of the residual, or the paper's Fourier-slice grid."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels * (2 if self.snr > 0 else 1) + 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        operator, y = self._transformed(problem)
        levels = self.grid.levels().to(y.device)
        x = levels[0] * noise.normal(operator.image_shape, device=y.device)
        for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
            if self.snr > 0:
                x = correct(denoiser, self._project(operator, y, x, sigma, noise), sigma, noise, snr=self.snr)
            x = predict(denoiser, self._project(operator, y, x, sigma, noise), sigma, sigma_next, noise)
            yield Step(index, float(sigma_next), x)
        x = denoiser(x, levels[-2].expand(len(x)))
        yield Step(self.grid.n_levels, 0.0, operator.project(x, y, strength=1.0))

    def _project(self, operator: MaskedTransform, y: Tensor, x: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        y_t = y + sigma * operator.forward(noise.normal_like(x))
        return operator.project(x, y_t, strength=self.strength)

    def _transformed(self, problem: InverseProblem) -> tuple[MaskedTransform, Tensor]:
        operator, y = problem.operator, problem.y
        if not isinstance(operator, MaskedTransform):
            raise TypeError(
                f"Algorithm 2 needs an invertible transform with a mask, {type(operator).__name__} has none: use DDS"
            )
        if self.transform == "fourier_slice" and isinstance(operator, ParallelBeam):
            return cast(tuple[MaskedTransform, Tensor], operator.as_fourier_slice(y))
        return operator, y
