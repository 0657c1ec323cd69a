"""DDS: DDIM steps with a few conjugate gradient steps on the denoised image.

Chung, Lee and Ye 2024, "Decomposed diffusion sampler", arXiv:2303.05754, in (x, sigma) space:

    denoised = D(x, sigma);  eps = (x - denoised) / sigma
    z = CG steps on the data, from denoised
    x = z + sigma_next temperature (sqrt(1 - eta^2) eps + eta n)

With a temperature below 1 an image carries less noise than its level says, and the network smooths what the data leave
open: the result moves from a sample towards the posterior mean, with no further call. Samples then lie closer together
than those of the posterior, more than they do already at 1.

One network call a level, no gradient through the network. The data step is a proximal step with the noise of the
data, so that noisy data are not followed into their noise. Data that count as noiseless are hardly ever exact (a
scanner is not our matrix): ``noise_floor`` is what they are off by at least.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.baselines import Direct
from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.data_step import denoised_std, proximal, with_noise_floor
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.start import AnyStart, noisy_start


class DDS(Method):
    """The fast default: about 50 network calls."""

    label: ClassVar[str] = "DDS"
    kind: Literal["dds"] = "dds"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=50, sigma_max=0.5, sigma_min=0.005), title="Noise levels")
    start: AnyStart = Field(Direct(), title="Start", description="The first image, under noise of the first level.")
    eta: float = Field(1.0, ge=0, le=1, description="Share of fresh noise: 0 deterministic, 1 all fresh.")
    temperature: float = Field(
        1.0, gt=0, le=1, description="Noise left in an image, relative to its level: less goes to the posterior mean."
    )
    n_cg: int = Field(
        5, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )
    strength: float = Field(
        1.0, gt=0, description="How far a denoised pixel may be off, in times a guess: more follows noisy data further."
    )
    noise_floor: float = Field(
        0.0, ge=0, lt=1, description="Data count as noisy by at least so much noise of the image; 0: as they are."
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
            eps = (x - denoised) / sigma
            std = self.strength * denoised_std(float(sigma))
            consistent = proximal(floored, data_image, denoised, std=std, n_iters=self.n_cg)
            fresh = noise.normal_like(x) if self.eta > 0 else 0.0
            x = consistent + sigma_next * self.temperature * ((1 - self.eta**2) ** 0.5 * eps + self.eta * fresh)
            yield Step(index, float(sigma_next), x)
