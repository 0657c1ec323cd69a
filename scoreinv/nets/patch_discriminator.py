"""A discriminator that judges patches: strided convolutions whose outputs each see a part of the image.

PatchGAN of Isola et al. 2017 (pix2pix, arXiv:1611.07004), with group normalisation, so that images of a batch do not
touch each other and no running statistics are kept.
"""

from typing import Literal

from pydantic import Field
from torch import nn

from scoreinv.spec import Spec

N_PER_GROUP = 8


class PatchDiscriminator(Spec):
    """Options of the discriminator; ``build`` makes it."""

    kind: Literal["patch"] = "patch"
    n_features: int = Field(32, ge=8, multiple_of=8, description="Channels of the first layer; doubled in each after.")
    n_layers: int = Field(3, ge=1, le=6, description="That halve the image: 3 judge patches of 70 pixels.")

    def build(self, n_in: int) -> nn.Module:
        """A new network (batch, n_in, height, width) -> (batch, 1, height', width'), large where it looks true."""
        layers: list[nn.Module] = [nn.Conv2d(n_in, self.n_features, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = self.n_features
        for layer in range(1, self.n_layers + 1):
            # The last one does not halve.
            stride = 2 if layer < self.n_layers else 1
            layers += [
                nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1),
                nn.GroupNorm(2 * width // N_PER_GROUP, 2 * width),
                nn.LeakyReLU(0.2),
            ]
            width *= 2
        return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))
