"""Algorithm 2 of Song, Shen, Xing and Ermon 2022 (arXiv:2111.08005): a projection before each update.

At each level of the predictor-corrector sampler, twice (before the corrector and before the predictor),

    y_t = y + sigma A n                     noise of the image, pushed through A: not white in the data
    x   = x + strength T^-1 mask (y_t - A x)

and at the end one Tweedie step and one projection with strength 1. 2 n_levels + 1 network calls.

It is not an exact posterior sampler: without the corrector it ignores about a third of what measured
entries tell of unmeasured ones, whatever the number of levels.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.operators.linear import MaskedTransform
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.predictor_corrector import PAPER_GRID, correct, predict
from scoreinv.samplers.sampler import Sampler

Transform = Literal["residual", "fourier_slice"]
"""Of computed tomography: full-view FBP of the residual, or the paper's Fourier-slice grid."""


class Projection(Sampler):
    """The paper's sampler; needs an operator with an invertible transform."""

    label: ClassVar[str] = "Algorithm 2"
    is_weighted: ClassVar[bool] = False
    kind: Literal["projection"] = "projection"
    grid: SigmaGrid = Field(PAPER_GRID, title="Noise levels")
    strength: float = Field(0.841, ge=0, le=1, description="lambda: 1 replaces the data, 0 ignores them.")
    snr: float = Field(
        0.246, ge=0, lt=1, title="SNR", description="Of the corrector; 0 drops it, which biases the result."
    )
    transform: Transform = Field(
        "residual", description="CT only: full-view FBP of the residual, or the paper's Fourier-slice grid."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels * (2 if self.snr > 0 else 1) + 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        operator, y = masked_transform(problem, self.transform)
        x, levels = self.begin(problem, noise)
        for level in levels:
            if self.snr > 0:
                x = project_noisy(operator, y, x, level.sigma, noise, strength=self.strength)
                x = correct(denoiser, x, level.sigma, noise, snr=self.snr)
            x = project_noisy(operator, y, x, level.sigma, noise, strength=self.strength)
            x = predict(denoiser, x, level.sigma, level.sigma_next, noise)
            yield Step(level.index, level.of_grid_next, x)
        x = denoiser(x, levels[-1].sigma.flatten())
        yield Step(self.grid.n_levels, 0.0, operator.project(x, y, strength=1.0))


def project_noisy(
    operator: MaskedTransform, y: Tensor, x: Tensor, sigma: Tensor, noise: Noise, *, strength: float
) -> Tensor:
    """Images near ``x`` that explain, to a degree, the data under noise of the image of level ``sigma``."""
    y_t = y + operator.forward(sigma * noise.normal_like(x))
    return operator.project(x, y_t, strength=strength)


def masked_transform(problem: InverseProblem, transform: Transform) -> tuple[MaskedTransform, Tensor]:
    """The operator and its data to project with.

    Raises:
        TypeError: if the operator has no invertible transform.
    """
    operator, y = problem.operator, problem.y
    if not isinstance(operator, MaskedTransform):
        raise TypeError(
            f"the projection needs an invertible transform with a mask, {type(operator).__name__} has none: use DDS"
        )
    return operator.as_fourier_slice(y) if transform == "fourier_slice" else (operator, y)
