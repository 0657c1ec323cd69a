"""Where a sampler starts: from a first image, under noise of its first level.

A first image saves the levels above its own error (CCDF; Chung, Sim and Ye 2022, arXiv:2112.05146): start
at two to three times the standard deviation of that error. Under noise far above the images' own deviation,
as in the paper's schedule, nothing of it is left, and the start is noise alone.

The error differs from image to image: total variation finds a few small structures exactly, and a whole head badly.
``graded_tv`` gives every image the first level that its own start deserves.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import Tensor

from scoreinv.baselines.tv import TotalVariation, estimated_error
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, reconstruct, run
from scoreinv.spec import Spec

LEAST = 1e-5
"""No first level is below: such an image needs no network, but a level cannot be 0."""


class First(NamedTuple):
    """First images (batch, n_channels, height, width) without noise, and the level of each, (batch, 1, 1, 1)."""

    x: Tensor
    sigma: Tensor


class Start(Spec):
    """How the first image is found."""

    kind: str = ""

    @abstractmethod
    def first(self, problem: InverseProblem, sigma_max: Tensor, noise: Noise) -> First:
        """The first images of a problem, and their levels: ``sigma_max``, a single number, or less."""


class DirectStart(Start):
    """From the direct reconstruction, or what the operator has in its place."""

    kind: Literal["direct"] = "direct"

    def first(self, problem: InverseProblem, sigma_max: Tensor, noise: Noise) -> First:
        x = problem.operator.start(problem.y)
        return First(x, sigma_max.to(x).expand(len(x), 1, 1, 1))


class _FromTV(Start):
    weight: float = Field(3e-4, ge=0, description="Of the total variation, relative to the squared norm of A.")
    noise_weight: float = Field(
        0.25,
        ge=0,
        title="Weight of noise",
        description="Added to it, relative to the noise that a gradient step adds: less than the best image takes, as "
        "the network removes noise too.",
    )
    n_iters: int = Field(500, ge=1)
    n_inner: int = Field(10, ge=1, description="Steps of each denoising, from the last one's dual.")

    @property
    def method(self) -> TotalVariation:
        """What finds the image."""
        return TotalVariation(
            weight=self.weight, noise_weight=self.noise_weight, n_iters=self.n_iters, n_inner=self.n_inner
        )


class TVStart(_FromTV):
    """From a total variation image."""

    kind: Literal["tv"] = "tv"
    version: ClassVar[int] = 2

    def first(self, problem: InverseProblem, sigma_max: Tensor, noise: Noise) -> First:
        x = reconstruct(self.method, problem, noise=noise).x
        return First(x, sigma_max.to(x).expand(len(x), 1, 1, 1))


class GradedTVStart(_FromTV):
    """From a total variation image, each at a level that follows from its own estimated error."""

    kind: Literal["graded_tv"] = "graded_tv"
    version: ClassVar[int] = 2
    factor: float = Field(
        8.0,
        gt=0,
        description="An image begins at so many times its estimated error, at most at the first level: enough to leave "
        "a start that is wrong, also where the estimate is too small by half. 4 to 8 serve about equally.",
    )

    def first(self, problem: InverseProblem, sigma_max: Tensor, noise: Noise) -> First:
        halfway = x = problem.operator.start(problem.y)
        for step in run(self.method, problem, noise=noise):
            if step.index < self.n_iters // 2:
                halfway = step.x
            x = step.x
        return First(x, (self.factor * estimated_error(halfway, x)).clamp_min(LEAST).minimum(sigma_max.to(x)))


AnyStart = Annotated[DirectStart | TVStart | GradedTVStart, Field(discriminator="kind")]
