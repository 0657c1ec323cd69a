"""Where a sampler starts: from a first image, under noise of the first level.

A first image saves the levels above its own error (CCDF; Chung, Sim and Ye 2022, arXiv:2112.05146): start
at two to three times the standard deviation of that error. Under noise far above the images' own deviation,
as in the paper's schedule, nothing of it is left, and the start is noise alone.

The error differs from image to image: total variation finds a few small structures exactly, and a whole head badly.
``graded_start`` gives every image the first level that its own start deserves.
"""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.tv import TotalVariation, estimated_error
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, reconstruct, run

LEAST = 1e-5
"""No first level is below: such an image needs no network, but a level cannot be 0."""

AnyStart = Annotated[Direct | TotalVariation, Field(discriminator="kind")]


def noisy_start(start: Method, problem: InverseProblem, sigma: Tensor, noise: Noise) -> Tensor:
    """A method's image of the problem plus noise of deviation ``sigma``, (batch, 1, height, width)."""
    x = reconstruct(start, problem, noise=noise).x
    return x + sigma.to(x) * noise.normal_like(x)


def graded_start(
    start: TotalVariation, problem: InverseProblem, sigma_max: Tensor, noise: Noise, *, factor: float
) -> tuple[Tensor, Tensor]:
    """``noisy_start`` with a level of its own for every image: ``factor`` times its estimated error.

    Args:
        start: a method whose error can be guessed.
        problem: the measurement.
        sigma_max: no level is above.
        noise: the random stream of each image.
        factor: enough to leave a start that is wrong, also where the estimate is too small by half; 4 to 8 serve about
            equally.

    Returns:
        The images (batch, 1, height, width) and their levels (batch, 1, 1, 1).
    """
    halfway = x = problem.operator.direct(problem.y)
    for step in run(start, problem, noise=noise):
        if step.index < start.n_iters // 2:
            halfway = step.x
        x = step.x
    sigma = (factor * estimated_error(halfway, x)).clamp_min(LEAST).minimum(sigma_max.to(x))
    return x + sigma * noise.normal_like(x), sigma
