"""NCSN++ (Song et al. 2021, arXiv:2011.13456), the network of the paper (Song et al. 2022, arXiv:2111.08005).

A U-Net that also carries the image itself along: on the way down, the image is halved beside the
features and added to them at every level (input skip); on the way up, every level paints onto the
enlarged picture of the coarser one (output skip). The noise level enters as random Fourier features of
log sigma. It predicts minus the noise; VEPreconditioning makes a denoiser of it.
"""

from functools import reduce
from itertools import pairwise
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from scoreinv.errors import UserError
from scoreinv.nets.layers import Attention, FourierEmbedding, ResidualBlock, conv, dense, fir_down, fir_up, group_norm
from scoreinv.spec import Spec


class NCSNpp(Spec):
    """NCSN++ with residual blocks, input and output skips; the defaults are the paper's for BraTS.

    Every level has half the size of the one before.
    """

    kind: Literal["ncsnpp"] = "ncsnpp"
    image_size: int = Field(240, ge=1, description="Pixels along each side of the images.")
    n_features: int = Field(32, ge=4, multiple_of=4, description="Channels of the first level.")
    channel_multipliers: tuple[PositiveInt, ...] = Field(
        (1, 1, 2, 2, 2), min_length=1, max_length=10, description="One number per level."
    )
    n_blocks: int = Field(2, ge=1, description="Residual blocks per level on the way down; one more on the way up.")
    attention_sizes: tuple[int, ...] = Field((30,), description="Sizes of the levels with self-attention.")
    fourier_scale: float = Field(16.0, gt=0, description="Standard deviation of the embedding's frequencies.")

    @model_validator(mode="after")
    def _levels_halve(self) -> Self:
        if self.image_size % self.size_multiple:
            raise ValueError(
                f"{self.n_levels} levels halve the image {self.n_levels - 1} times: "
                f"image_size must be a multiple of {self.size_multiple}, got {self.image_size}"
            )
        if not set(self.attention_sizes) <= set(self.sizes):
            raise ValueError(
                f"attention_sizes must be among the levels' sizes {self.sizes}, got {self.attention_sizes}"
            )
        return self

    @property
    def n_levels(self) -> int:
        return len(self.channel_multipliers)

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this."""
        return 1 << self.n_levels - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pixels along each side at every level."""
        return tuple(self.image_size // 2**level for level in range(self.n_levels))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at every level."""
        return tuple(self.n_features * multiplier for multiplier in self.channel_multipliers)

    @property
    def n_embedding(self) -> int:
        return 4 * self.n_features

    def build(self, n_in: int = 1, n_out: int = 1) -> nn.Module:
        """The network with fresh weights, called as network(x (batch, n_in, height, width), log sigma (batch,))."""
        return NCSNppNetwork(self, n_in, n_out)


class NCSNppNetwork(nn.Module):
    """Minus the noise in x, from images x whose clean values are in [0, 1] and label = log sigma."""

    def __init__(self, spec: NCSNpp, n_in: int = 1, n_out: int = 1) -> None:
        super().__init__()
        n_features, width = spec.n_features, spec.widths[-1]
        self.size_multiple = spec.size_multiple
        self.embedding = nn.Sequential(
            FourierEmbedding(n_features, scale=spec.fourier_scale),
            dense(2 * n_features, spec.n_embedding),
            nn.SiLU(),
            dense(spec.n_embedding, spec.n_embedding),
        )
        self.conv_in = conv(n_in, n_features, 3)
        self.encoder = nn.ModuleList(EncoderLevel(spec, level) for level in range(spec.n_levels))
        self.downs = nn.ModuleList(Down(n, spec.n_embedding, n_in) for n in spec.widths[:-1])
        self.middle = nn.ModuleList(ResidualBlock(width, width, spec.n_embedding) for _ in range(2))
        self.middle_attention = Attention(width)
        self.decoder = nn.ModuleList(DecoderLevel(spec, level) for level in reversed(range(spec.n_levels)))
        self.heads = nn.ModuleList(_head(width, n_out) for width in reversed(spec.widths))

    def forward(self, x: Tensor, label: Tensor, position: Tensor | None = None) -> Tensor:
        """The raw output (batch, n_out, height, width); of the position of the pixels it takes no notice.

        Raises:
            ValueError: if the image cannot be halved once per level.
        """
        self._check_size(x)
        embedding = self.embedding(label)
        skips = self._encode(2 * x - 1, embedding)
        h = self.middle[0](skips[-1], embedding)
        h = self.middle[1](self.middle_attention(h), embedding)
        pictures: list[Tensor] = []
        for level, head in zip(self.decoder, self.heads, strict=True):
            h = level(h, skips, embedding)
            pictures.append(head(h))
        return reduce(_paint_onto, pictures)

    def _encode(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        skips: list[Tensor] = self.encoder[0](self.conv_in(x), embedding)
        for down, level in zip(self.downs, self.encoder[1:], strict=True):
            x = fir_down(x)
            skips += level(down(skips[-1], x, embedding), embedding)
        return skips

    def _check_size(self, x: Tensor) -> None:
        if x.shape[-1] % self.size_multiple or x.shape[-2] % self.size_multiple:
            raise UserError(
                f"this network halves the image once per level: height and width must be multiples of "
                f"{self.size_multiple}, got {x.shape[-2]} x {x.shape[-1]}"
            )


class EncoderLevel(nn.Module):
    """All feature maps of a level on the way down, the one that enters first: the skips."""

    def __init__(self, spec: NCSNpp, level: int) -> None:
        super().__init__()
        widths = [_entering(spec, level)] + [spec.widths[level]] * spec.n_blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, spec.n_embedding) for a, b in pairwise(widths))
        self.attentions = nn.ModuleList(_attention(spec, level) for _ in self.blocks)

    def forward(self, h: Tensor, embedding: Tensor) -> list[Tensor]:
        skips = [h]
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            skips.append(attention(block(skips[-1], embedding)))
        return skips


class Down(nn.Module):
    """From one level to the next coarser one, where the halved image joins the features."""

    def __init__(self, width: int, n_embedding: int, n_in: int) -> None:
        super().__init__()
        self.block = ResidualBlock(width, width, n_embedding, fir_down)
        self.join = conv(n_in, width, 1)

    def forward(self, h: Tensor, image: Tensor, embedding: Tensor) -> Tensor:
        """Feature maps of half the size, from h (batch, width, ...) and the image, halved already."""
        joined: Tensor = self.block(h, embedding) + self.join(image)
        return joined


class DecoderLevel(nn.Module):
    """The feature maps of a level on the way up."""

    def __init__(self, spec: NCSNpp, level: int) -> None:
        super().__init__()
        is_coarsest, width = level == spec.n_levels - 1, spec.widths[level]
        below = width if is_coarsest else spec.widths[level + 1]
        self.up = None if is_coarsest else ResidualBlock(below, below, spec.n_embedding, fir_up)
        skips = [width] * spec.n_blocks + [_entering(spec, level)]
        inputs = [below] + [width] * spec.n_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock(n + skip, width, spec.n_embedding) for n, skip in zip(inputs, skips, strict=True)
        )
        self.attention = _attention(spec, level)

    def forward(self, h: Tensor, skips: list[Tensor], embedding: Tensor) -> Tensor:
        """Feature maps from those of the coarser level; takes this level's skips off the end of the list."""
        h = h if self.up is None else self.up(h, embedding)
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        attended: Tensor = self.attention(h)
        return attended


def _entering(spec: NCSNpp, level: int) -> int:
    """Channels with which a level of the encoder begins."""
    return spec.widths[level - 1] if level else spec.n_features


def _attention(spec: NCSNpp, level: int) -> nn.Module:
    has_attention = spec.sizes[level] in spec.attention_sizes
    return Attention(spec.widths[level]) if has_attention else nn.Identity()


def _paint_onto(coarse: Tensor, fine: Tensor) -> Tensor:
    return fir_up(coarse) + fine


def _head(width: int, n_out: int) -> nn.Sequential:
    """What a level paints: 0 at the start of training."""
    return nn.Sequential(group_norm(width), nn.SiLU(), conv(width, n_out, 3, scale=0))
