"""Cascade DenseNet: cascades of a small dense network and a step to the data (Zheng, Fang and Zhang 2019).

"Cascaded Dilated Dense Network with Two-step Data Consistency for MRI Reconstruction", NeurIPS 2019; the variant of its
released code that is proposed there: five cascades, dense layers of dilation 1, 2 and 4 with bottlenecks, half of the
features kept, and after each cascade the data, the magnitude (of real images), and the data again.

What differs from the original: normalisation over groups of channels of one image, not over a batch, so that a result
does not depend on its neighbours; the data are on the images' physical scale. Data count as noiseless, as there.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from scoreinv.contract import Modality
from scoreinv.nets.layers import group_norm
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.kspace import MeasuredSpectrum
from scoreinv.reconstructors.reconstructor import Reconstructor, ReconstructorSpec, smallest


class CascadeDenseNet(ReconstructorSpec):
    """Options of the cascades; ``build`` makes them."""

    label: ClassVar[str] = "Cascade DenseNet"
    modality: ClassVar[Modality | None] = "mri"
    kind: Literal["cascade_densenet"] = "cascade_densenet"
    n_cascades: int = Field(5, ge=1, le=20, title="Cascades")
    n_growth: int = Field(16, ge=4, multiple_of=4, title="Growth", description="Channels that each dense layer adds.")
    dilations: tuple[PositiveInt, ...] = Field((1, 2, 4), min_length=1, description="One dense layer for each.")

    def built(self, n_channels: int) -> "CascadeDenseNetwork":
        return CascadeDenseNetwork(self)


class CascadeDenseNetwork(Reconstructor):
    """Cascades of an own network each."""

    network: nn.ModuleList

    def __init__(self, spec: CascadeDenseNet) -> None:
        super().__init__()
        self.network = nn.ModuleList(_Dense(spec.n_growth, spec.dilations) for _ in range(spec.n_cascades))

    def forward(self, problem: InverseProblem) -> Tensor:
        data = MeasuredSpectrum(problem)
        x = data.zero_filled()
        for network in self.network:
            x = data.consistent(x + self.called(network, x))
            if data.n_channels == 1:
                size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
                x = data.consistent(torch.cat([size, torch.zeros_like(size)], 1))
        return data.shown(x)


class _Dense(nn.Module):
    def __init__(self, growth: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, growth, 3, padding=1)
        widths = [growth * (i + 1) for i in range(len(dilations))]
        self.layers = nn.ModuleList(_Layer(n, growth, d) for n, d in zip(widths, dilations, strict=True))
        total = widths[-1] + growth
        kept = max(4, total // 8 * 4)
        self.transition = nn.Sequential(group_norm(total), nn.ReLU(), nn.Conv2d(total, kept, 1))
        self.last = nn.Sequential(group_norm(kept), nn.ReLU(), smallest(nn.Conv2d(kept, 2, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        for layer in self.layers:
            h = torch.cat([h, layer(h)], 1)
        result: Tensor = self.last(self.transition(h))
        return result


class _Layer(nn.Sequential):
    """Of a dense block: a bottleneck, and a dilated convolution."""

    def __init__(self, n_in: int, growth: int, dilation: int) -> None:
        super().__init__(
            group_norm(n_in),
            nn.ReLU(),
            nn.Conv2d(n_in, growth, 1),
            group_norm(growth),
            nn.ReLU(),
            nn.Conv2d(growth, growth, 3, padding=dilation, dilation=dilation),
        )
