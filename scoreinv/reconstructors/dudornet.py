"""DuDoRNet: an image network and a k-space network in turn, the same two in every recurrence (Zhou and Zhou 2020).

"DuDoRNet: Learning a Dual-Domain Recurrent Network for Fast MRI Reconstruction with Deep T1 Prior", CVPR 2020,
arXiv:2001.03799, without its T1 image, as Song et al. 2022 compare with it:

    x <- data(x + I(x)),    k <- F x,    k <- k + K(k),    x <- F^-1 data(k),

both networks dilated residual dense ones with squeeze and excitation. A training compares the image after the data and
the spectrum before them, in every recurrence.

What differs from the original: the Fourier transform is orthonormal, so that image and spectrum weigh alike (there a
spectrum's numbers are as many times larger as the image has pixels); each network makes a correction and not the whole
image; four recurrences and fewer features (five and 32 there), for two cores.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from scoreinv.contract import Modality
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.kspace import MeasuredSpectrum, complex_images, image_of, spectrum_of
from scoreinv.reconstructors.reconstructor import Pair, Reconstructor, ReconstructorSpec, smallest

REDUCTION = 4
"""Of the channels between squeeze and excitation."""


class DuDoRNet(ReconstructorSpec):
    """Options of the two networks; ``build`` makes them."""

    label: ClassVar[str] = "DuDoRNet"
    modality: ClassVar[Modality | None] = "mri"
    kind: Literal["dudornet"] = "dudornet"
    n_recurrences: int = Field(4, ge=1, le=10, title="Recurrences")
    n_features: int = Field(16, ge=8, multiple_of=4, title="Channels", description="And growth; 32 in the paper.")
    n_blocks: int = Field(3, ge=1, le=10, title="Blocks", description="Residual dense blocks of each network.")
    dilations: tuple[PositiveInt, ...] = Field((1, 2, 3, 3), min_length=1, description="Of a block's convolutions.")

    def built(self, n_channels: int) -> "DuDoRNetwork":
        return DuDoRNetwork(self)


class DuDoRNetwork(Reconstructor):
    """The image after the last recurrence."""

    network: nn.ModuleDict

    def __init__(self, spec: DuDoRNet) -> None:
        super().__init__()
        self.n_recurrences = spec.n_recurrences
        self.network = nn.ModuleDict({"image": _DilatedDense(spec), "spectrum": _DilatedDense(spec)})

    def forward(self, problem: InverseProblem) -> Tensor:
        data = MeasuredSpectrum(problem)
        *_, (_, spectrum) = self._passes(data)
        return data.shown(image_of(data.kept(spectrum)))

    def pairs(self, problem: InverseProblem, images: Tensor) -> Sequence[Pair]:
        truth = complex_images(images)
        data, full = MeasuredSpectrum(problem), spectrum_of(truth)
        pairs: list[Pair] = []
        for image, spectrum in self._passes(data):
            pairs += [(spectrum, full), (image, truth)]
        return [*pairs, (data.shown(image_of(data.kept(spectrum))), images)]

    def _passes(self, data: MeasuredSpectrum) -> Iterator[Pair]:
        """Of each recurrence the image after the data and the spectrum before them."""
        x = data.zero_filled()
        for _ in range(self.n_recurrences):
            image = data.consistent(x + self.called(self.network["image"], x))
            spectrum = spectrum_of(image)
            spectrum = spectrum + self.called(self.network["spectrum"], spectrum)
            yield image, spectrum
            x = image_of(data.kept(spectrum))


class _DilatedDense(nn.Module):
    """Shallow features, residual dense blocks, all of them fused, and two convolutions to the correction."""

    def __init__(self, spec: DuDoRNet) -> None:
        super().__init__()
        width = spec.n_features
        self.shallow = nn.ModuleList([nn.Conv2d(2, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])
        self.blocks = nn.ModuleList(_Block(width, spec.dilations) for _ in range(spec.n_blocks))
        self.fusion = nn.Sequential(nn.Conv2d(spec.n_blocks * width, width, 1), nn.Conv2d(width, width, 3, padding=1))
        self.last = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), smallest(nn.Conv2d(width, 2, 3, padding=1)))

    def forward(self, x: Tensor) -> Tensor:
        first = self.shallow[0](x)
        h = self.shallow[1](first)
        made = []
        for block in self.blocks:
            h = block(h)
            made.append(h)
        result: Tensor = self.last(first + self.fusion(torch.cat(made, 1)))
        return result


class _Block(nn.Module):
    """Dense dilated convolutions, fused, weighed by channel, and added to what came in."""

    def __init__(self, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d((i + 1) * width, width, 3, padding=d, dilation=d) for i, d in enumerate(dilations)
        )
        self.fusion = nn.Conv2d((len(dilations) + 1) * width, width, 1)
        few = max(1, width // REDUCTION)
        self.weigh = nn.Sequential(nn.Linear(width, few), nn.ReLU(), nn.Linear(few, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for conv in self.convs:
            h = torch.cat([h, F.relu(conv(h))], 1)
        h = self.fusion(h)
        result: Tensor = x + h * self.weigh(h.mean((2, 3)))[:, :, None, None]
        return result
