"""Reconstructors: functions from an inverse problem to its image, trained for one measurement.

The one here refines the direct reconstruction B y (filtered backprojection, zero-filled transform) by a network F,

    x = B y + F(B y),

which learns what B gets wrong (Jin et al. 2017, "FBPConvNet", arXiv:1611.03679). Any module that is called as
module(problem) can be trained and used in its place.
"""

import torch
from torch import Tensor, nn

from scoreinv.problem import InverseProblem


class Reconstructor(nn.Module):
    """The refined direct reconstruction.

    The network is called as network(x (batch, n_channels, height, width), label (batch,)), its label 0, and may run
    under autocast.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.autocast_dtype: torch.dtype | None = None

    def forward(self, problem: InverseProblem) -> Tensor:
        """Images (batch, n_channels, height, width), float32."""
        direct = problem.operator.direct(problem.y).float()
        with torch.autocast(direct.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            raw: Tensor = self.network(direct, direct.new_zeros(len(direct)))
        return direct + raw.float()
