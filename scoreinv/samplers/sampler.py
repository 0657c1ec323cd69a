"""What all samplers share: a grid of levels, a start, how far data are trusted, and a symmetry of the images.

A sampler is a start, a way to call the prior, a data step and a renoising. The first and everything that surrounds the
second are here; a file of its own says the rest.
"""

import itertools
from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from scoreinv.denoiser import Denoiser, mirrored
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Level
from scoreinv.samplers.start import AnyStart, DirectStart, First

Symmetry = Literal["none", "flip"]


class Sampler(Method):
    """A method that calls a prior, level after level."""

    moved: ClassVar[Mapping[str, str]] = {"noise_floor": "data_floor"}

    grid: SigmaGrid = Field(SigmaGrid(), title="Noise levels")
    start: AnyStart = Field(
        DirectStart(), title="Start", description="The first image, under noise of the first level."
    )
    data_floor: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Data count as noisy by at least so much noise of the image (relative to the norm of A): for what "
        "they are off by though no noise says so.",
    )
    symmetry: Symmetry = Field(
        "none",
        description="flip: the network sees left and right exchanged in every second call, so that errors on which it "
        "does not agree with itself average out; for priors trained with flips.",
    )

    exact_share: ClassVar[float] = 1.0
    """Of the floor, for data that are exact but for noise."""

    exact_end: ClassVar[float] = 1.0
    """Of the last level, for data that are exact but for noise."""

    def prepared(self, problem: InverseProblem) -> InverseProblem:
        """The problem with noise of at least the floor, and white."""
        return super().prepared(problem.with_floor(self.floor_of(problem)))

    def floor_of(self, problem: InverseProblem) -> float:
        """Of the data, relative to the norm of A."""
        return self.data_floor * (self.exact_share if problem.is_exact else 1)

    def grid_of(self, problem: InverseProblem) -> SigmaGrid:
        """The noise levels, whose last one is lower where the data allow more."""
        end = self.grid.sigma_min * (self.exact_end if problem.is_exact else 1)
        return self.grid.model_copy(update={"sigma_min": end})

    def seen(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser as the symmetry shows the images to it ("equivariant"; Terris et al., CVPR 2024)."""
        return every_second_mirrored(denoiser) if self.symmetry == "flip" else denoiser

    def begin(self, problem: InverseProblem, noise: Noise) -> tuple[Tensor, list[Level]]:
        """The noisy first images (batch, n_channels, height, width), and the levels to go through."""
        first, levels = self.first(problem, noise)
        return first.x + first.sigma * noise.normal_like(first.x), levels

    def first(self, problem: InverseProblem, noise: Noise) -> tuple[First, list[Level]]:
        """The first images as the start finds them, and the levels: the grid's, in proportion to each image's first."""
        grid = self.grid_of(problem).levels()
        first = self.start.first(problem, grid[0], noise)
        share = first.sigma / grid[0].to(first.sigma)
        sigmas = [(float(sigma), share * sigma.to(share)) for sigma in grid]
        pairs = enumerate(itertools.pairwise(sigmas))
        return first, [Level(i, now[0], after[0], now[1], after[1]) for i, (now, after) in pairs]


def every_second_mirrored(denoiser: Denoiser) -> Denoiser:
    """The denoiser, whose second, fourth, ... call sees the mirror images."""
    calls, mirror = itertools.count(), mirrored(denoiser)
    return lambda x, sigma: (mirror if next(calls) % 2 else denoiser)(x, sigma)
