"""The refined direct reconstruction: what a network F makes of filtered backprojection, or of zero-filled k-space.

    x = B y + F(B y),

where F learns what B gets wrong (Jin et al. 2017, "FBPConvNet", arXiv:1611.03679). Any network of images serves as F: a
recipe of a reconstructor that names one means this.
"""

from typing import ClassVar

from torch import Tensor, nn

from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.reconstructor import Reconstructor


class Refined(Reconstructor):
    """The refined direct reconstruction.

    The network is called as network(x (batch, n_channels, height, width), label (batch,)), its label 0.
    """

    label: ClassVar[str] = "post-processing network"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, problem: InverseProblem) -> Tensor:
        direct = problem.operator.direct(problem.y).float()
        return direct + self.called(self.network, direct, direct.new_zeros(len(direct)))
