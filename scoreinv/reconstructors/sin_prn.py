"""SIN-4c-PRN: a network that completes the sinogram, then one that refines its images (Wei et al. 2020).

"2-step sparse-view CT reconstruction with a domain-specific perceptual network", arXiv:2012.04743: the sinogram is
interpolated between the views, its ends continued by the reversed views half a turn on, and corrected by a U-Net; a
second U-Net sees four images, filtered backprojections of the measured views and of a quarter, half and all of the
completed ones, and makes the image. Trainings compare the sinogram, the filtered sinogram and the image.

What differs from the original: both networks are trained together, in float on the physical scale; there they were
trained one after the other and met as 8-bit pictures between each one's own minimum and maximum. Both correct what they
see and have the project's U-Net. Of its discriminators there is one, of the image, if the objective is adversarial; its
patches stand for the local ones, and its features are not compared.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from scoreinv.contract import Modality
from scoreinv.nets.unet import UNet
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.reconstructor import Pair, Reconstructor, ReconstructorSpec
from scoreinv.reconstructors.sinogram import FullScan

PARTS = (4, 2, 1)
"""Every so many views of the completed scan make an image that the second network sees."""


class SinPrn(ReconstructorSpec):
    """Options of the two networks; ``build`` makes them."""

    label: ClassVar[str] = "SIN-4c-PRN"
    modality: ClassVar[Modality | None] = "ct"
    kind: Literal["sin_prn"] = "sin_prn"
    n_full: int = Field(
        184, ge=4, le=4096, multiple_of=4, title="Views of the full scan", description="A multiple of those measured."
    )
    sinogram: UNet = Field(
        UNet(patch=2, n_middle=0, has_position=False), title="Sinogram network", description="Completes the sinogram."
    )
    image: UNet = Field(UNet(patch=2), title="Image network", description="Refines the images.")

    @property
    def size_multiple(self) -> int:
        return self.image.size_multiple

    def built(self, n_channels: int) -> "SinPrnNetwork":
        return SinPrnNetwork(self)


class SinPrnNetwork(Reconstructor):
    """The refined image of the completed sinogram."""

    network: nn.ModuleDict

    def __init__(self, spec: SinPrn) -> None:
        super().__init__()
        self.n_full = spec.n_full
        self.network = nn.ModuleDict(
            {"sinogram": spec.sinogram.build(1, 1), "image": spec.image.build(1 + len(PARTS), 1)}
        )

    def forward(self, problem: InverseProblem) -> Tensor:
        scan = FullScan(problem, self.n_full)
        return self._image(scan, self._completed(scan))

    def pairs(self, problem: InverseProblem, images: Tensor) -> Sequence[Pair]:
        scan = FullScan(problem, self.n_full)
        completed, full = self._completed(scan), scan.sinograms(images)
        filtered = scan.filtered(completed), scan.filtered(full)
        return [(completed, full), filtered, (self._image(scan, completed), images)]

    def _completed(self, scan: FullScan) -> Tensor:
        guess = scan.interpolated()
        return guess + self._called("sinogram", guess[:, None])[:, 0]

    def _image(self, scan: FullScan, completed: Tensor) -> Tensor:
        sinograms = scan.kept(completed)
        images = [scan.measured_image(), *(scan.image(sinograms, every=every) for every in PARTS)]
        return images[-1] + self._called("image", torch.cat(images, 1))

    def _called(self, name: str, x: Tensor) -> Tensor:
        return self.called(self.network[name], x, x.new_zeros(len(x)))
