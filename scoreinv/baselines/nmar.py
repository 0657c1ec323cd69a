"""NMAR: lines across the trace of metal in a sinogram that a prior image has made flat (Meyer et al. 2010).

    n = A prior,   completed = n times lines across (y / n),   x = FBP(completed)

(doi:10.1118/1.3484090.) The prior image is the LI image in which what is air becomes air, what is soft tissue becomes
one value, and bone stays, as a smoothed image tells them apart: edges of bone behind metal then come from it, and lines
need only bridge what differs slowly. Values are relative to that of soft tissue, the median of what is not air: a
method knows no Hounsfield units.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scoreinv.baselines.linear_interpolation import traced
from scoreinv.denoiser import Denoiser
from scoreinv.linalg import spread
from scoreinv.noise import Noise
from scoreinv.operators.trace import across, blurred
from scoreinv.problem import InverseProblem, Method, Needs, Step

LEAST_LENGTH = 10.0
"""Of soft tissue in a ray, in pixel sides: below it the prior image flattens nothing, as nothing is divided by air."""


class NMAR(Method):
    """The image of the sinogram that a simple image of air, tissue and bone completes."""

    label: ClassVar[str] = "NMAR"
    kind: Literal["nmar"] = "nmar"
    needs: ClassVar[Needs] = "nothing"
    is_stochastic: ClassVar[bool] = False
    is_weighted: ClassVar[bool] = False
    """Filtered backprojection knows no weights."""
    air: float = Field(0.6, gt=0, lt=1, description="Below this share of soft tissue's value is air.")
    bone: float = Field(1.25, gt=1, description="Above this multiple of soft tissue's value is bone.")
    blur: float = Field(0.5, gt=0, le=10, description="A Gaussian's deviation in pixels, before they are told apart.")

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        operator, y = traced(problem, self.label), problem.y
        prior, tissue = self.prior_image(operator.start(y))
        expected = operator.whole(prior).maximum(LEAST_LENGTH * spread(tissue, y))
        yield Step(0, 0.0, operator.fbp(completed(y, operator.seen, expected), step=operator.geometry.step))

    def prior_image(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (batch, n_channels, height, width) of air, tissue and bone, and soft tissue's value (batch,)."""
        smooth = blurred(x, self.blur)
        tissue = torch.stack([_tissue(one) for one in smooth])
        level = spread(tissue, x)
        body = torch.where(smooth < self.bone * level, level, x)
        return torch.where(smooth < self.air * level, 0.0, body), tissue


def completed(y: Tensor, seen: Tensor, expected: Tensor) -> Tensor:
    """Sinograms whose hidden rays are to the expected ones as those beside the trace.

    Args:
        y: (batch, ..., n_views, n_bins), each ray times what it counts for.
        seen: what it counts for, 0 to 1; broadcasts to y.
        expected: of all rays, above 0.
    """
    return y + (1 - seen) * expected * across(y / expected, (seen == 1).expand_as(y))


def _tissue(x: Tensor) -> Tensor:
    """The median of what is not air, which lies above half of itself; the highest value where there is only air."""
    level = x.max()
    for _ in range(10):
        level = x[x >= level / 2].median()
    return level
