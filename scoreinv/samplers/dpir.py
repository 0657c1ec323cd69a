"""DPIR: plug-and-play half quadratic splitting with the prior as denoiser.

Zhang, Li, Zuo, Zhang, Van Gool and Timofte 2022, "Plug-and-play image restoration with deep denoiser prior",
arXiv:2008.13751. From a first image z, at each level of a falling grid

    x = argmin_x |A x - y|^2 / noise_std^2 + |x - z|^2 / (strength sigma)^2        by conjugate gradients
    z = D(x, sigma)

and the last x is the result. No noise is added: one image, near its start's mode, no posterior sample. The paper's
weight lambda = 0.23 is a strength of 2.1, its levels fall evenly in the logarithm from 49/255 to the noise of the data.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.data_step import proximal
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.sampler import Sampler


class DPIR(Sampler):
    """One image in few calls, without noise."""

    label: ClassVar[str] = "DPIR"
    is_stochastic: ClassVar[bool] = False
    kind: Literal["dpir"] = "dpir"
    version: ClassVar[int] = 2
    exact_share: ClassVar[float] = 0.1
    grid: SigmaGrid = Field(
        SigmaGrid(n_levels=24, sigma_max=0.2, sigma_min=0.01, spacing="geometric"), title="Noise levels"
    )
    data_floor: float = Field(
        1e-3, gt=0, lt=1, description="Data count as noisy by at least so much; exact ones by a tenth."
    )
    strength: float = Field(2.0, gt=0, description="How far the data may move an image, in units of the level.")
    n_cg: int = Field(
        10, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        data_image = problem.operator.adjoint(problem.y)
        first, levels = self.first(problem, noise)
        x = first.x
        for level in levels:
            denoised = denoiser(x, level.sigma.flatten())
            x = proximal(problem, data_image, denoised, std=self.strength * level.sigma, n_iters=self.n_cg)
            yield Step(level.index, level.of_grid_next, x)
