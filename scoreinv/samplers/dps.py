"""DPS: down the gradient of the data residual, taken through the network.

Chung, Kim, McCann, Klasky and Ye 2023, "Diffusion posterior sampling", arXiv:2209.14687, in (x, sigma) space,
with r = y - A D(x, sigma), g = A^H r and J the Jacobian of D:

    x = DDIM step of (x, D) + step / share J^T g,   step = zeta / n_levels sqrt(n_pixels) / (|A| |r|)

As in the released code the gradient is that of |r|, not of its square. The factors sqrt(n_pixels) / |A| and
1 / n_levels make one zeta mean the same for every operator, size and number of levels. share = <g, J^T g> / <g, g>
makes up for a Jacobian that is small at high noise, as the scale of variance preserving images does in the
released code.

Two bounds are added. step is at most 1 / |A|^2, beyond which plain gradient descent overshoots: without it zeta
becomes the jitter of the result. And it is multiplied by 1 - m noise_std^2 / |r|^2, or 0 where that is negative,
with m the count of real numbers in y that are not 0: a residual that is no longer than the noise is left alone.
Noiseless data are pursued all the way.

As every gradient descent it is slow where A is weak, such as for the fine structure in CT: PiGDM solves there.
"""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import norms, spread
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.guidance import denoise, passed_share
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.sampler import Sampler


class DPS(Sampler):
    """Many short steps, each with a gradient through the network: about three times the time of its calls."""

    moved: ClassVar[Mapping[str, str]] = {"eta": "renoise.eta"}

    label: ClassVar[str] = "DPS"
    kind: Literal["dps"] = "dps"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=300, sigma_max=1.0, sigma_min=0.01), title="Noise levels")
    renoise: Renoise = Field(Renoise(), title="Renoising")
    zeta: float = Field(
        3.0, ge=0, description="How far the data may move the image over all levels, as a root mean square over pixels."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        noise_energy = spread(problem.noise_std**2, problem.y) * count_measured(problem.y)
        x, levels = self.begin(problem, noise)
        for level in levels:
            denoised, pullback = denoise(denoiser, x, level.sigma)
            residual = problem.residual(denoised)
            gradient = problem.operator.adjoint(self._step(problem, norms(residual), noise_energy) * residual)
            pulled = pullback(gradient)
            x = self.renoise.step(denoised, (x - denoised) / level.sigma, level, noise, is_ancestral=True)
            x = x + pulled / passed_share(gradient, pulled)
            yield Step(level.index, level.of_grid_next, x)

    def _step(self, problem: InverseProblem, length: Tensor, noise_energy: Tensor) -> Tensor:
        """The factor of A^H r for residuals of a length, both (batch, 1, ...)."""
        norm, length = spread(problem.operator.norm(), length), length.clamp_min(1e-12)
        n_pixels = math.prod(problem.operator.image_shape)
        unexplained = (1 - noise_energy / length**2).clamp_min(0)
        step: Tensor = self.zeta / self.grid.n_levels * n_pixels**0.5 / (norm * length)
        return step.minimum(1 / norm**2) * unexplained


def count_measured(y: Tensor) -> Tensor:
    """The real numbers of data (batch, ...) that are not 0, one count per image, (batch, 1, ...).

    What was not acquired is 0; with noise, what was acquired is not.
    """
    parts = torch.view_as_real(y) if y.is_complex() else y
    return parts.flatten(1).count_nonzero(1).view(-1, *[1] * (y.ndim - 1))
