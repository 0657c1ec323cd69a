"""Sinogram completion by a conditional GAN (Ghani and Karl 2018, "Deep learning-based sinogram completion for low-dose
CT", IVMSP, doi:10.1109/IVMSPW.2018.8448403).

A generator sees the full scan's sinogram with nothing where no view was measured, and fills it; measured views are put
back, and the image is its filtered backprojection. The generator is an encoder and a decoder of strided convolutions
with skips. To be trained by the adversarial objective, whose discriminator sees the sinogram beside the one with gaps,
with weight 0.02 and a squared error beside it, as the paper's 50 to 1.

What differs from the original: normalisation over groups of channels of one image, not over a batch; sinograms in float
on their physical scale, not in 8 bits between each one's own minimum and maximum; the discriminator is that of patches.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from scoreinv.contract import Modality
from scoreinv.nets.layers import group_norm
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.reconstructor import Pair, Reconstructor, ReconstructorSpec
from scoreinv.reconstructors.sinogram import FullScan

N_HALVINGS = 4
SLOPE = 0.2
"""Of the leaky rectifiers."""


class SinogramGAN(ReconstructorSpec):
    """Options of the generator; ``build`` makes it."""

    label: ClassVar[str] = "cGAN"
    modality: ClassVar[Modality | None] = "ct"
    kind: Literal["sinogram_gan"] = "sinogram_gan"
    n_full: int = Field(184, ge=2, le=4096, title="Views of the full scan", description="A multiple of those measured.")
    n_features: int = Field(32, ge=8, multiple_of=8, title="Channels", description="At first; 64 in the paper.")

    def built(self, n_channels: int) -> "SinogramGANNetwork":
        return SinogramGANNetwork(self)


class SinogramGANNetwork(Reconstructor):
    """Filtered backprojection of the completed sinogram."""

    def __init__(self, spec: SinogramGAN) -> None:
        super().__init__()
        self.n_full = spec.n_full
        self.network = _Generator(spec.n_features)

    def forward(self, problem: InverseProblem) -> Tensor:
        scan = FullScan(problem, self.n_full)
        return scan.image(scan.kept(self._completed(scan)))

    def pairs(self, problem: InverseProblem, images: Tensor) -> Sequence[Pair]:
        scan = FullScan(problem, self.n_full)
        return [(self._completed(scan)[:, None], scan.sinograms(images)[:, None])]

    def condition(self, problem: InverseProblem) -> Tensor:
        return FullScan(problem, self.n_full).placed()[:, None]

    def _completed(self, scan: FullScan) -> Tensor:
        return self.called(self.network, scan.placed()[:, None])[:, 0]


class _Generator(nn.Module):
    """Four halvings and four doublings, with skips; any height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [1, *(width << level for level in range(N_HALVINGS))]
        self.down = nn.ModuleList(nn.Conv2d(n_in, n_out, 4, stride=2, padding=1) for n_in, n_out in pairwise(widths))
        self.down_norms = nn.ModuleList(group_norm(n) for n in widths[2:])
        ups = [(widths[-1], widths[-2]), *((2 * n, n // 2) for n in widths[-2:1:-1])]
        self.up = nn.ModuleList(nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1) for n_in, n_out in ups)
        self.up_norms = nn.ModuleList(group_norm(n_out) for _, n_out in ups)
        self.last = nn.ConvTranspose2d(2 * widths[1], 1, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = 1 << N_HALVINGS
        h = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        skips = []
        for level, conv in enumerate(self.down):
            h = conv(h) if level == 0 else self.down_norms[level - 1](conv(h))
            h = F.leaky_relu(h, SLOPE)
            skips.append(h)
        h = skips.pop()
        for conv, norm in zip(self.up, self.up_norms, strict=True):
            h = torch.cat([F.relu(norm(conv(h))), skips.pop()], 1)
        result: Tensor = self.last(h)
        return result[..., :height, :width]
