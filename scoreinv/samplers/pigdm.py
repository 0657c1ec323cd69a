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

Data of little noise are taken to have noise of NOISE_FLOOR |A|, so that what A hardly sees is not amplified without
bound, rounding errors included.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.baselines import Direct
from scoreinv.denoiser import Denoiser
from scoreinv.linalg import conjugate_gradient, spread
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.data_step import denoised_std, with_noise_floor
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.guidance import ddim_step, denoise, passed_share
from scoreinv.samplers.start import AnyStart, noisy_start

NOISE_FLOOR = 3e-3
"""Least noise of the data, as a share of the operator's norm: what 0.003 in one pixel does at most."""


class PiGDM(Method):
    """Close to the posterior in 100 levels, each with a gradient through the network: thrice the time of its calls."""

    label: ClassVar[str] = "PiGDM"
    kind: Literal["pigdm"] = "pigdm"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=100, sigma_max=1.0, sigma_min=0.01), title="Noise levels")
    start: AnyStart = Field(Direct(), title="Start", description="The first image, under noise of the first level.")
    eta: float = Field(1.0, ge=0, le=1, description="Of the DDIM steps: 0 probability flow, 1 ancestral sampling.")
    n_cg: int = Field(
        10, ge=1, le=100, title="Conjugate gradient steps", description="Conjugate gradient steps per level."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        levels = self.grid.levels()
        x = noisy_start(self.start, problem, levels[0], noise)
        share = x.new_full((len(x), 1, 1, 1), (denoised_std(float(levels[0])) / float(levels[0])) ** 2)
        for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
            denoised, pullback = denoise(denoiser, x, sigma)
            correction = pseudo_inverse(problem, denoised, std=float(sigma) * share.sqrt(), n_iters=self.n_cg)
            pulled = pullback(correction)
            share = passed_share(correction, pulled)
            x = ddim_step(x, denoised + pulled / share, sigma, sigma_next, noise, eta=self.eta)
            yield Step(index, float(sigma_next), x)


def pseudo_inverse(problem: InverseProblem, x: Tensor, *, std: Tensor, n_iters: int) -> Tensor:
    """A^H (A A^H + (noise_std / std)^2 I)^-1 (y - A x), images (batch, 1, height, width).

    Args:
        problem: A, y and noise_std, which counts as NOISE_FLOOR |A| at least.
        x: what is known of the images (batch, 1, height, width).
        std: how far each may be off, per pixel, (batch, 1, 1, 1).
        n_iters: conjugate gradient steps.
    """
    weight = (spread(with_noise_floor(problem, NOISE_FLOOR).noise_std, x) / std) ** 2

    def apply(z: Tensor) -> Tensor:
        return problem.operator.normal(z) + weight * z

    unexplained = problem.operator.adjoint(problem.residual(x))
    return conjugate_gradient(apply, unexplained, torch.zeros_like(x), n_iters=n_iters, tol=1e-5)
