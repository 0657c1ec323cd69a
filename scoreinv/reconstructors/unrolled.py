"""An unrolled network: steps towards the data and learned steps in turn, for every measurement with a projection.

    g_k     = C (y - A x_k),    x_0 = B y
    x_{k+1} = x_k + s_k g_k + F_k(x_k, g_k),    k = 0 .. n_passes - 1
    x       = x_n + s_n C (y - A x_n)

with C the operator's ``approximate_inverse``: what puts a data residual into the image, exactly in MRI, by a filtered
backprojection in CT. In MRI this is the variational network in image space (Hammernik et al. 2018,
doi:10.1002/mrm.26977; Sriram et al. 2020, "E2E-VarNet", arXiv:2004.06688), in CT the learned gradient scheme (Adler and
Oktem 2017, arXiv:1704.04058) whose gradient is preconditioned by the filter. The steps s_k are learned, and every pass
has a network of its own: what somebody would take today who has pairs of images and data.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from scoreinv.nets.unet import UNet
from scoreinv.operators.linear import MaskedTransform
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.reconstructor import Reconstructor, ReconstructorSpec, Scalars


class Unrolled(ReconstructorSpec):
    """Options of the unrolled network; ``build`` makes it."""

    label: ClassVar[str] = "unrolled network"
    kind: Literal["unrolled"] = "unrolled"
    n_passes: int = Field(5, ge=1, le=20, title="Passes", description="Through the data and a network.")
    refiner: UNet = Field(
        UNet(n_features=16, channel_multipliers=(1, 2, 4), n_middle=0), title="Network", description="Of every pass."
    )

    @property
    def size_multiple(self) -> int:
        return self.refiner.size_multiple

    def built(self, n_channels: int) -> "UnrolledNetwork":
        return UnrolledNetwork(self, n_channels)


class UnrolledNetwork(Reconstructor):
    """x_n, and one more step towards the data."""

    network: nn.ModuleDict

    def __init__(self, spec: Unrolled, n_channels: int) -> None:
        super().__init__()
        passes = nn.ModuleList(spec.refiner.build(2 * n_channels, n_channels) for _ in range(spec.n_passes))
        self.network = nn.ModuleDict({"passes": passes, "steps": Scalars(spec.n_passes + 1, 0.5)})

    def forward(self, problem: InverseProblem) -> Tensor:
        operator = problem.operator
        assert isinstance(operator, MaskedTransform)
        *steps, last = self.network["steps"]()
        x = operator.direct(problem.y).float()
        for step, network in zip(steps, self.network["passes"].children(), strict=True):
            g = operator.approximate_inverse(problem.residual(x)).float()
            x = x + step * g + self.called(network, torch.cat([x, g], 1), x.new_zeros(len(x)))
        result: Tensor = x + last * operator.approximate_inverse(problem.residual(x)).float()
        return result
