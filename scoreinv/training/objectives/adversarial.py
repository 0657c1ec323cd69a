"""Supervised learning against a discriminator that tells reconstructions from images (conditional GAN).

The model learns from supervised loss + weight * fool, the discriminator D from tell; D looks at an image beside the
direct reconstruction (or at what else the reconstructor completes, ``Reconstructor.pairs``), as in Isola et al. 2017
(pix2pix, arXiv:1611.07004). With t = D(images) and f = D(R(y)):

    hinge          tell = relu(1 - t) + relu(1 + f)      fool = -f           (Lim and Ye 2017, arXiv:1705.02894)
    least squares  tell = ((t - 1)^2 + f^2) / 2          fool = (f - 1)^2    (Mao et al. 2017, arXiv:1611.04076)

Such images look like images: what the data do not tell is invented, at some cost in squared error.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.nets.patch_discriminator import PatchDiscriminator
from scoreinv.problem import Model
from scoreinv.reconstructors import AnyModel
from scoreinv.reconstructors.reconstructor import condition_of, pairs_of
from scoreinv.training.data import Batches
from scoreinv.training.objectives.objective import MODEL, Examples, Models, Objective
from scoreinv.training.objectives.supervised import Supervised

DISCRIMINATOR = "discriminator"

SMALLEST = 4
"""Pixels along each side that a discriminator must leave before its last two layers, each of which takes one."""


class Adversarial(Objective):
    """A network whose images cannot be told from true ones."""

    kind: Literal["adversarial"] = "adversarial"
    supervised: Supervised = Field(title="Supervised", description="The measurement, and the other part of the loss.")
    weight: float = Field(0.01, ge=0, description="Of the adversarial part of the model's loss.")
    gan: Literal["hinge", "least_squares"] = Field("hinge", title="Adversarial loss")
    judge: PatchDiscriminator = Field(PatchDiscriminator(), title="Discriminator")

    def build(self, network: AnyModel, image: ImageContract) -> dict[str, nn.Module]:
        """As ``Denoising.build``; the discriminator learns first in every step."""
        if image.size >> self.judge.n_layers < SMALLEST:
            raise UserError(
                f"judge.n_layers={self.judge.n_layers} leaves nothing of images of {image.size} pixels: take fewer"
            )
        discriminator = self.judge.build(2 * image.n_channels)
        return {DISCRIMINATOR: discriminator, **self.supervised.build(network, image)}

    def factor(self, fine_factor: int) -> int:
        """As ``Denoising.factor``."""
        return self.supervised.factor(fine_factor)

    def batches(self, images: Batches, image: ImageContract) -> Batches:
        """As ``Supervised.batches``."""
        return self.supervised.batches(images, image)

    def loss(self, models: Models, examples: Examples, group: str = MODEL) -> Tensor:
        """Of each image, (batch,)."""
        problem, images = examples
        model, judge = models[MODEL], models[DISCRIMINATOR]
        condition = condition_of(model, problem)
        if group == DISCRIMINATOR:
            with torch.no_grad():
                made, wanted = pairs_of(model, problem, images)[-1]
            # Both in one call.
            seen = torch.cat([torch.cat([x, condition], 1) for x in (wanted, made)])
            return self._tell(*judge(seen).chunk(2)).flatten(1).mean(1)
        pairs = pairs_of(model, problem, images)
        fool = self._fool(judge(torch.cat([pairs[-1][0], condition], 1))).flatten(1).mean(1)
        return self.supervised.distance(pairs) + self.weight * fool

    def _tell(self, true: Tensor, made: Tensor) -> Tensor:
        if self.gan == "hinge":
            return (1 - true).relu() + (1 + made).relu()
        return ((true - 1).square() + made.square()) / 2

    def _fool(self, made: Tensor) -> Tensor:
        return -made if self.gan == "hinge" else (made - 1).square()

    def sigmas(self) -> tuple[float, ...]:
        """As ``Supervised.sigmas``."""
        return self.supervised.sigmas()

    def errors(self, model: Model, images: Tensor, image: ImageContract) -> tuple[float, ...]:
        """As ``Supervised.errors``."""
        return self.supervised.errors(model, images, image)
