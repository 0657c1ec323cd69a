"""LI: lines across the trace of metal, view by view, then filtered backprojection.

What every later method is compared with (Kalender, Hebel and Ebersberger 1987, doi:10.1148/radiology.164.2.3602406).
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.errors import UserError
from scoreinv.noise import Noise
from scoreinv.operators.metal_ct import TracedCTOperator
from scoreinv.operators.trace import interpolated
from scoreinv.problem import InverseProblem, Method, Needs, Step


class LinearInterpolation(Method):
    """The image of the sinogram whose hidden rays lie between their neighbours'."""

    label: ClassVar[str] = "LI"
    kind: Literal["li"] = "li"
    needs: ClassVar[Needs] = "nothing"
    is_stochastic: ClassVar[bool] = False
    is_weighted: ClassVar[bool] = False
    """Filtered backprojection knows no weights."""
    n_beside: int = Field(
        1,
        ge=1,
        le=100,
        title="Rays beside the trace",
        description="Whose mean a line begins and ends with: more is calmer where photons are few, and else worse.",
    )

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        operator = traced(problem, self.label)
        filled = interpolated(problem.y, operator.seen, n_beside=self.n_beside)
        yield Step(0, 0.0, operator.fbp(filled, step=operator.geometry.step))


def traced(problem: InverseProblem, label: str) -> TracedCTOperator:
    """The operator of a problem in which metal hides rays.

    Raises:
        UserError: if it is of another measurement; names the method.
    """
    if not isinstance(problem.operator, TracedCTOperator):
        raise UserError(
            f"{label} completes what metal hides of CT data, but these are of a {type(problem.operator).__name__}: "
            "measure with measurement.kind=metal_ct, or choose another method"
        )
    return problem.operator
