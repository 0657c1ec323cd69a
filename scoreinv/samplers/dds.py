"""DDS: DDIM steps with a few conjugate gradient steps on the denoised image.

Chung, Lee and Ye 2024, "Decomposed diffusion sampler", arXiv:2303.05754, in (x, sigma) space:

    denoised = D(x, sigma);  eps = (x - denoised) / sigma
    z = CG steps on the data, from denoised
    x = z + sigma_next temperature (sqrt(1 - eta^2) eps + eta n)

With a temperature below 1 an image carries less noise than its level says, and the network smooths what the data leave
open: the result moves from a sample towards the posterior mean, with no further call. Samples then lie closer together
than those of the posterior, more than they do already at 1. Without fresh noise (eta 0) the temperature acts on what is
left at every level: the noise is gone soon, and the rest is plug-and-play half quadratic splitting of falling strength
(Zhang et al. 2022, "DPIR"), which comes nearest to the truth but stays near its start. ``fresh_share`` joins the two:
fresh noise at the first levels, to leave a bad start, and none below.

One network call a level, no gradient through the network. The data step is a proximal step with the noise of the
data, so that noisy data are not followed into their noise. Data that count as noiseless are hardly ever exact (a
scanner is not our matrix): ``noise_floor`` is what they are off by at least.

Two options beyond the paper take nothing more. ``start_factor`` begins every image at the level of its own start's
error (``graded_start``): where total variation is nearly right, noise of the grid's first level would only lose that.
``is_mirrored`` shows the network the mirror image in every second call, so that errors on which it does not agree with
itself average out ("equivariant" denoisers; Terris et al., CVPR 2024); for priors trained with flips.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from scoreinv.baselines import Direct, TotalVariation
from scoreinv.denoiser import Denoiser, mirrored
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.data_step import denoised_std, proximal, with_noise_floor
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.start import AnyStart, graded_start, noisy_start


class DDS(Method):
    """The fast default: about 50 network calls."""

    label: ClassVar[str] = "DDS"
    kind: Literal["dds"] = "dds"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=50, sigma_max=0.5, sigma_min=0.005), title="Noise levels")
    start: AnyStart = Field(Direct(), title="Start", description="The first image, under noise of the first level.")
    eta: float = Field(1.0, ge=0, le=1, description="Share of fresh noise: 0 deterministic, 1 all fresh.")
    fresh_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the levels, from the first, at which noise is fresh as eta says; below them all is kept.",
    )
    temperature: float = Field(
        1.0, gt=0, le=1, description="Noise left in an image, relative to its level: less goes to the posterior mean."
    )
    start_factor: float = Field(
        0.0,
        ge=0,
        title="First level, times the error of the start",
        description="Each image begins at so many times the estimated error of its TV start, at most at the first "
        "level; 0: all at the first level.",
    )
    is_mirrored: bool = Field(
        False,
        title="Mirror every second call",
        description="The network sees left and right exchanged in every second call; for priors trained with flips.",
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

    @model_validator(mode="after")
    def _start_has_an_estimate(self) -> "DDS":
        if self.start_factor > 0 and not isinstance(self.start, TotalVariation):
            raise ValueError(
                f"start_factor={self.start_factor} needs a start of kind tv: set start, or start_factor to 0"
            )
        return self

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        floored = with_noise_floor(problem, self.noise_floor)
        data_image = problem.operator.adjoint(problem.y)
        levels = self.grid.levels()
        x, first = self._first_image(problem, levels[0], noise)
        share = first / levels[0]
        for index, (level, level_next) in enumerate(itertools.pairwise(levels)):
            sigma, sigma_next = share * level, share * level_next
            call = mirrored(denoiser) if self.is_mirrored and index % 2 == 1 else denoiser
            denoised = call(x, sigma.flatten())
            eps = (x - denoised) / sigma
            std = self.strength * denoised_std(sigma)
            consistent = proximal(floored, data_image, denoised, std=std, n_iters=self.n_cg)
            eta = self.eta if index < self.fresh_share * self.grid.n_levels else 0.0
            fresh = noise.normal_like(x) if eta > 0 else 0.0
            x = consistent + sigma_next * self.temperature * ((1 - eta**2) ** 0.5 * eps + eta * fresh)
            yield Step(index, float(level_next), x)

    def _first_image(self, problem: InverseProblem, sigma_max: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """The noisy start and its levels (batch, 1, 1, 1)."""
        if self.start_factor > 0 and isinstance(self.start, TotalVariation):
            return graded_start(self.start, problem, sigma_max, noise, factor=self.start_factor)
        x = noisy_start(self.start, problem, sigma_max, noise)
        return x, sigma_max.to(x).expand(len(x), 1, 1, 1)
