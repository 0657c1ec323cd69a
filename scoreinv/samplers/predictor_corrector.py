"""Algorithm 1: samples of the prior by predictor-corrector steps (Song et al. 2021, arXiv:2011.13456).

At each level of a VE schedule a Langevin corrector and then a reverse-diffusion predictor,

    corrector: e = 2 (snr |n| / |s|)^2;  x = x + e s + sqrt(2 e) n
    predictor: d = sigma^2 - sigma_next^2;  x = x + d s + sqrt(d) n

with norms per image: the released code averages them over the batch, which makes a result depend on
its neighbours.
"""

import itertools
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser, score
from scoreinv.linalg import norms
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Step
from scoreinv.samplers.grid import SigmaGrid

PAPER_GRID = SigmaGrid(n_levels=1000, sigma_max=128.0, sigma_min=0.01, spacing="geometric")
"""The schedule of BraTS 240 and LIDC 320 in Song et al. 2022; LDCT 512 has sigma_max 220."""


class PredictorCorrector(Method):
    """Unconditional samples: of the problem only the shape is used."""

    label: ClassVar[str] = "Algorithm 1"
    kind: Literal["predictor_corrector"] = "predictor_corrector"
    grid: SigmaGrid = Field(PAPER_GRID, title="Noise levels")
    snr: float = Field(
        0.16, ge=0, lt=1, title="SNR", description="Signal-to-noise ratio of the corrector; 0: no corrector."
    )

    @property
    def n_calls(self) -> int:
        return self.grid.n_levels * (2 if self.snr > 0 else 1) + 1

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        levels = self.grid.levels().to(problem.y.device)
        x = levels[0] * noise.normal(problem.operator.image_shape, device=problem.y.device)
        for index, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
            if self.snr > 0:
                x = correct(denoiser, x, sigma, noise, snr=self.snr)
            x = predict(denoiser, x, sigma, sigma_next, noise)
            yield Step(index, float(sigma_next), x)
        yield Step(self.grid.n_levels, 0.0, denoiser(x, levels[-2].expand(len(x))))


def correct(
    denoiser: Denoiser, x: Tensor, sigma: Tensor, noise: Noise, *, snr: float, longest: Tensor | None = None
) -> Tensor:
    """One Langevin step at a fixed noise level; its step size is each image's own, and at most ``longest``."""
    s, n = score(denoiser, x, sigma), noise.normal_like(x)
    step = 2 * (snr * norms(n) / norms(s).clamp_min(1e-12)) ** 2
    step = step if longest is None else step.minimum(longest)
    return x + step * s + (2 * step).sqrt() * n


def predict(denoiser: Denoiser, x: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise) -> Tensor:
    """One step of the reverse diffusion from sigma to sigma_next, noise included."""
    drop = sigma**2 - sigma_next**2
    return x + drop * score(denoiser, x, sigma) + torch.sqrt(drop) * noise.normal_like(x)
