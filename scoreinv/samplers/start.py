"""Where a sampler starts: from a first image, under noise of the first level.

A first image saves the levels above its own error (CCDF; Chung, Sim and Ye 2022, arXiv:2112.05146): start
at two to three times the standard deviation of that error. Under noise far above the images' own deviation,
as in the paper's schedule, nothing of it is left, and the start is noise alone.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.tv import TotalVariation
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, reconstruct

AnyStart = Annotated[Direct | TotalVariation, Field(discriminator="kind")]


def noisy_start(start: Method, problem: InverseProblem, sigma: Tensor, noise: Noise) -> Tensor:
    """A method's image of the problem plus noise of deviation ``sigma``, (batch, 1, height, width)."""
    x = reconstruct(start, problem, noise=noise).x
    return x + sigma.to(x) * noise.normal_like(x)
