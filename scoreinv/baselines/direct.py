"""The naive reconstruction: FBP for CT, zero-filled for MRI."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Method, Needs, Step


class Direct(Method):
    """One application of the operator's direct inverse; what a scanner shows without a prior."""

    label: ClassVar[str] = "direct"
    kind: Literal["direct"] = "direct"
    needs: ClassVar[Needs] = "nothing"
    is_stochastic: ClassVar[bool] = False

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        yield Step(0, 0.0, problem.operator.direct(problem.y))
