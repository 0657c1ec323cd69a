"""Least squares by conjugate gradients, stopped early (CGLS; Hestenes and Stiefel 1952, Bjorck 1996).

    minimise  |A x - y|^2    from x = 0

The first steps find what the data tell best; later ones fit their noise, and what the grid gets wrong. So the number of
steps is what regularises.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import conjugate_gradient
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Needs, Step


class CGLS(Method):
    """The image that explains the data after a few steps from nothing."""

    label: ClassVar[str] = "CGLS"
    needs: ClassVar[Needs] = "nothing"
    is_stochastic: ClassVar[bool] = False
    kind: Literal["cgls"] = "cgls"
    n_iters: int = Field(10, ge=1, description="The fewer, the smoother.")

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        operator = problem.operator
        b = operator.adjoint(problem.y)
        # Once the data are explained, the residual is rounding noise.
        yield Step(0, 0.0, conjugate_gradient(operator.normal, b, torch.zeros_like(b), n_iters=self.n_iters, tol=1e-5))
