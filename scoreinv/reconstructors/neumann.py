"""The Neumann network (Gilton, Ongie and Willett 2019, arXiv:1901.03707), preconditioned.

    b_0     = eta C y
    b_{k+1} = b_k - eta C A b_k - R(b_k),    x = b_0 + ... + b_n

with one network R for all blocks and a learned eta. It is the Neumann series of (C A + R)^-1 C y, so that without R it
is n steps of a linear iteration.

What differs from the original: C is the operator's ``approximate_inverse`` in place of A^H, as the paper's
preconditioned variant has (A^H A + eta)^-1 A^H: in CT a filtered backprojection, and I - C A contracts. R has no
normalisation (over a batch, there): it must see that later terms are smaller, and a result must not depend on its
neighbours. It has fewer channels (128 there). The output is the image itself, on its scale.
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from scoreinv.operators.linear import MaskedTransform
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.reconstructor import Reconstructor, ReconstructorSpec, Scalars, smallest

SLOPE = 0.1
"""Of the leaky rectifiers."""


class Neumann(ReconstructorSpec):
    """Options of the Neumann network; ``build`` makes it."""

    label: ClassVar[str] = "Neumann network"
    kind: Literal["neumann"] = "neumann"
    n_blocks: int = Field(6, ge=1, le=30, title="Blocks", description="Terms of the series after the first.")
    n_features: int = Field(32, ge=8, multiple_of=8, title="Channels", description="Of R; 128 in the paper.")

    def built(self, n_channels: int) -> "NeumannNetwork":
        return NeumannNetwork(self, n_channels)


class NeumannNetwork(Reconstructor):
    """The sum of the series."""

    network: nn.ModuleDict

    def __init__(self, spec: Neumann, n_channels: int) -> None:
        super().__init__()
        self.n_blocks = spec.n_blocks
        self.network = nn.ModuleDict({"regulariser": _Regulariser(spec.n_features, n_channels), "eta": Scalars(1, 1.0)})

    def forward(self, problem: InverseProblem) -> Tensor:
        operator, eta = problem.operator, self.network["eta"]()
        assert isinstance(operator, MaskedTransform)
        term = eta * operator.approximate_inverse(problem.y).float()
        total: Tensor = term
        for _ in range(self.n_blocks):
            seen = operator.approximate_inverse(operator.forward(term)).float()
            term = term - eta * seen - self.called(self.network["regulariser"], term)
            total = total + term
        return total


class _Regulariser(nn.Module):
    """R: two residual blocks between point-wise layers, on the image less its mean."""

    def __init__(self, width: int, n_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(n_channels, width, 1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(2))
        self.points = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2))
        self.last = smallest(nn.Conv2d(width, n_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x - x.mean((2, 3), keepdim=True))
        for block in self.blocks:
            h = block(h)
        for point in self.points:
            h = F.leaky_relu(point(h), SLOPE)
        result: Tensor = self.last(h)
        return result


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for conv in self.convs:
            h = F.leaky_relu(conv(h), SLOPE)
        return x + h
