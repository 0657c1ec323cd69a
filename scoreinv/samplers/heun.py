"""Samples of the prior along the probability flow, by Heun's method (Karras et al. 2022, arXiv:2206.00364, alg. 1).

dx/dsigma = (x - D(x, sigma)) / sigma,   from sigma_max n down to 0
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.grid import SigmaGrid


class Heun(Method):
    """Unconditional samples in few calls: of the problem only the shape is used."""

    label: ClassVar[str] = "Heun"
    kind: Literal["heun"] = "heun"
    grid: SigmaGrid = Field(
        SigmaGrid(n_levels=40, sigma_max=80.0, sigma_min=0.002),
        title="Noise levels",
        description="With 40 the variance of a Gaussian prior comes out within 4 %.",
    )

    @property
    def n_calls(self) -> int:
        return 2 * self.grid.n_levels - 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        return heun_steps(denoiser, self.grid, problem.operator.image_shape, noise, device=problem.y.device)


def heun_steps(
    denoiser: Denoiser, grid: SigmaGrid, shape: Sequence[int], noise: Noise, *, device: torch.device | None = None
) -> Iterator[Step]:
    """Yield the steps of unconditional samples (batch, *shape), where there is not even a problem."""
    levels = grid.levels().to(device)
    x = levels[0] * noise.normal(shape, device=device)
    for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels.view(-1, 1, 1, 1, 1))):
        drop = sigma_next - sigma
        slope = probability_flow(denoiser, x, sigma)
        if index < grid.n_levels - 1:
            slope = (slope + probability_flow(denoiser, x + drop * slope, sigma_next)) / 2
        x = x + drop * slope
        yield Step(index, float(sigma_next), x)


def prior_samples(
    denoiser: Denoiser, grid: SigmaGrid, shape: Sequence[int], noise: Noise, *, device: torch.device | None = None
) -> Tensor:
    """What the prior draws when nothing is measured, (batch, *shape)."""
    *_, last = heun_steps(denoiser, grid, shape, noise, device=device)
    return last.x


def probability_flow(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """dx/dsigma of images (batch, n_channels, height, width) at levels (batch or 1, 1, 1, 1)."""
    return (x - denoiser(x, sigma.flatten().expand(len(x)))) / sigma
