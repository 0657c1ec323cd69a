"""RED-diff: an image by optimisation, with the denoising error as the regulariser.

Mardani et al. 2024, "A variational perspective on solving inverse problems with diffusion models",
arXiv:2305.04391. From a first image mu, one Adam step a level with the gradient

    x = mu + sigma n
    g = A^H (A mu - y) / |A|^2 + w (mu - D(x, sigma)),   w = strength (noise_std / (|A| s))^2

No gradient goes through the network: mu - D(x, sigma) is sigma (eps - n) with eps = (x - D) / sigma. The paper's
w is a constant times 1 / SNR and is tuned for every task; here noise_std weighs the data as in the posterior, and
s = sigma / sqrt(1 + sigma^2 / sigma_data^2), the error of a denoised pixel, the prior. With strength 1 the
gradient is then zero at the posterior's mean where images are white and Gaussian, at every level.

The result is near the most probable image: nearly the same one for every seed, of no use as a posterior sample.

Adam converges slowly where A is weak, and the more so the less the prior weighs. Nearly noiseless data therefore
count as noisy by ``data_floor``, which costs accuracy where they would allow more: lower it with more levels.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import spread
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step
from scoreinv.samplers.data_step import denoised_std
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.sampler import Sampler


class REDDiff(Sampler):
    """One image, hardly any spread; it begins at its start without noise."""

    label: ClassVar[str] = "RED-diff"
    kind: Literal["red_diff"] = "red_diff"
    grid: SigmaGrid = Field(SigmaGrid(n_levels=200, sigma_max=1.0, sigma_min=0.01), title="Noise levels")
    data_floor: float = Field(1e-2, gt=0, lt=1, description="Data count as noisy by at least so much.")
    strength: float = Field(1.0, gt=0, description="How much the prior weighs against the data.")
    rate: float = Field(0.05, gt=0, lt=1, description="Adam's first step per pixel; it falls linearly to 0.")

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        first, levels = self.first(problem, noise)
        mu, norm = first.x.clone(), spread(problem.operator.norm(), first.x)
        noise_std = spread(problem.noise_std, mu) / norm
        adam = torch.optim.Adam([mu], lr=self.rate, betas=(0.9, 0.99))
        for level in levels:
            denoised = denoiser(mu + level.sigma * noise.normal_like(mu), level.sigma.flatten())
            weight = self.strength * (noise_std / denoised_std(level.sigma)) ** 2
            misfit = problem.operator.adjoint(problem.residual(mu)) / norm**2
            mu.grad = weight * (mu - denoised) - misfit
            adam.param_groups[0]["lr"] = self.rate * (1 - level.index / self.grid.n_levels)
            adam.step()
            yield Step(level.index, level.of_grid_next, mu.clone())
