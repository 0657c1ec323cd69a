"""A network that was trained for one measurement: x = R(y), in one call.

Nothing makes such an image explain the data. A few steps of conjugate gradients on |A x - y|^2 from there pull it
towards them, and are stopped before they follow the noise.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scoreinv.linalg import conjugate_gradient
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Model, Needs, Step


class Learned(Method):
    """The image that a reconstructor gives for the data."""

    label: ClassVar[str] = "learned"
    kind: Literal["learned"] = "learned"
    needs: ClassVar[Needs] = "reconstructor"
    is_stochastic: ClassVar[bool] = False
    is_weighted: ClassVar[bool] = False
    """The network sees the data as in its training."""
    n_cg: int = Field(0, ge=0, title="Steps towards the data", description="0: the network's image as it is.")

    @property
    def n_calls(self) -> int:
        return 1

    def steps(self, problem: InverseProblem, denoiser: Model, noise: Noise) -> Iterator[Step]:
        x = denoiser(problem)
        if self.n_cg:
            operator = problem.operator
            # Once the data are explained, the residual is rounding noise.
            x = conjugate_gradient(operator.normal, operator.adjoint(problem.y), x, n_iters=self.n_cg, tol=1e-5)
        yield Step(0, 0.0, x)
