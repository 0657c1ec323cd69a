"""PiGDM: guidance by the pseudo-inverse of the operator, through the network.

Song, Vahdat, Mardani and Kautz 2023, "Pseudoinverse-guided diffusion models for inverse problems" (ICLR), in
(x, sigma) space. With D = D(x, sigma), J its Jacobian, and x0 given x taken as N(D, r^2 I),

    E[x0 | x, y] = D + (sigma / r)^2 J^T g,   g = A^H (A A^H + (noise_std / r)^2 I)^-1 (y - A D)

and a DDIM step is taken with that in the place of D. g = (A^H A + (noise_std / r)^2 I)^-1 A^H (y - A D) as well, which
conjugate gradients solve over images. With many levels this is exact where one r fits all directions.

The published r is a function of sigma, fitted to images of unit variance, and far too large for smooth ones. The true
covariance is sigma^2 J, so r is measured in the direction that matters: r^2 = sigma^2 <g, J^T g> / <g, g>, which costs
nothing and makes the correction along g a whole one; within g it is the last level's r / sigma. The published step adds
J^T g with weight 1 at each level: with many levels that fits the noise of the data, and the samples lose their spread.

Data of little noise are taken to have noise of ``data_floor`` |A|, so that what A hardly sees is not amplified without
bound, rounding errors included.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.data_step import denoised_std, proximal
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.guidance import denoise, passed_share
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.sampler import Sampler


class PiGDM(Sampler):
    """Close to the posterior in 100 levels, each with a gradient through the network: thrice the time of its calls."""

    moved: ClassVar[Mapping[str, str]] = {"eta": "renoise.eta"}

    label: ClassVar[str] = "PiGDM"
    kind: Literal["pigdm"] = "pigdm"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=100, sigma_max=1.0, sigma_min=0.01), title="Noise levels")
    data_floor: float = Field(3e-3, gt=0, lt=1, description="Data count as noisy by at least so much.")
    renoise: Renoise = Field(Renoise(), title="Renoising")
    n_cg: int = Field(
        10, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        data_image = problem.operator.adjoint(problem.y)
        x, levels = self.begin(problem, noise)
        share = (denoised_std(levels[0].sigma) / levels[0].sigma) ** 2
        for level in levels:
            denoised, pullback = denoise(denoiser, x, level.sigma)
            std = level.sigma * share.sqrt()
            correction = proximal(problem, data_image, denoised, std=std, n_iters=self.n_cg) - denoised
            pulled = pullback(correction)
            share = passed_share(correction, pulled)
            clean = denoised + pulled / share
            x = self.renoise.step(clean, (x - clean) / level.sigma, level, noise, is_ancestral=True)
            yield Step(level.index, level.of_grid_next, x)
