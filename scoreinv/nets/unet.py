"""A small U-Net that trains in hours on a CPU.

It works on a grid coarser by ``patch``: a pixel-unshuffle stem turns patch x patch pixels into channels
and a pixel-shuffle head turns them back, which costs patch^2 times less at the same width. Residual
blocks with adaptive scale and shift (Dhariwal and Nichol 2021, arXiv:2105.05233), self-attention at
the coarsest level, one skip connection per block.
"""

import math
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from scoreinv.errors import UserError
from scoreinv.nets.layers import silu
from scoreinv.nets.position import position_of
from scoreinv.spec import Spec

N_HEAD = 64
"""Channels of each attention head, at least."""


class UNet(Spec):
    """Options of the U-Net; ``build`` makes it."""

    kind: Literal["unet"] = "unet"
    patch: int = Field(1, ge=1, le=8, description="Pixels per side that the stem folds into channels.")
    n_features: int = Field(24, ge=8, description="Channels at the finest level.")
    channel_multipliers: tuple[PositiveInt, ...] = Field((1, 2, 3, 4), min_length=1, max_length=10)
    n_blocks: int = Field(1, ge=1, description="Residual blocks per level.")
    n_middle: int = Field(
        1, ge=0, title="Middle blocks", description="Residual blocks and attentions at the coarsest level."
    )
    has_position: bool = Field(
        True, description="Two input channels that hold the pixel's position, in [-1, 1] at the trained size."
    )

    @model_validator(mode="after")
    def _channels_divide_among_the_heads(self) -> "UNet":
        n = self.n_features * self.channel_multipliers[-1]
        if self.n_middle and n % max(1, n // N_HEAD):
            raise ValueError(
                f"n_features={self.n_features} times {self.channel_multipliers[-1]} makes {n} channels at the coarsest "
                f"level, which do not divide into {n // N_HEAD} heads: take a multiple of {N_HEAD}"
            )
        return self

    @property
    def size_multiple(self) -> int:
        """Height and width should be multiples of this: others are mirrored at their edges up to the next one."""
        return self.patch << (len(self.channel_multipliers) - 1)

    def build(self, n_in: int = 1, n_out: int = 1) -> "UNetNetwork":
        """A new network from n_in to n_out channels, its output zero until it is trained."""
        return UNetNetwork(self, n_in, n_out)


class UNetNetwork(nn.Module):
    """network(x (batch, n_in, height, width), label (batch,)) -> (batch, n_out, height, width).

    Images that are not as those it was trained on come with the position (batch, 2, height, width) of their pixels.
    """

    def __init__(self, spec: UNet, n_in: int = 1, n_out: int = 1) -> None:
        super().__init__()
        self.spec = spec
        widths = [spec.n_features * m for m in spec.channel_multipliers]
        n_label = 4 * spec.n_features
        n_folded = spec.patch**2
        self.label = LabelEmbedding(n_label)
        self.stem = nn.Conv2d(n_folded * (n_in + 2 * spec.has_position), widths[0], 3, padding=1)
        self.down, skips = _encoder(spec, widths, n_label)
        self.middle = nn.ModuleList(_Middle(widths[-1], n_label) for _ in range(spec.n_middle))
        self.up = _decoder(spec, widths, n_label, skips)
        self.norm = _norm(widths[0])
        self.head = _zero(nn.Conv2d(widths[0], n_folded * n_out, 3, padding=1))

    def forward(self, x: Tensor, label: Tensor, position: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        if self.spec.has_position:
            x = torch.cat([x, position_of(x) if position is None else position], 1)
        x, top, left = self._padded(x)
        return self._features(x, label)[..., top : top + height, left : left + width]

    def _features(self, x: Tensor, label: Tensor) -> Tensor:
        emb = self.label(label)
        h = self.stem(F.pixel_unshuffle(x, self.spec.patch))
        skips = [h]
        for layer in self.down:
            h = layer(h, emb)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, emb)
        for layer in self.up:
            h = layer(h, emb) if isinstance(layer, Upsample) else layer(torch.cat([h, skips.pop()], 1), emb)
        return F.pixel_shuffle(self.head(silu(self.norm(h))), self.spec.patch)

    def _padded(self, x: Tensor) -> tuple[Tensor, int, int]:
        """x with its edges mirrored, image and position alike, and how many rows and columns come before it."""
        multiple = self.spec.size_multiple
        rows, columns = (-n % multiple for n in x.shape[-2:])
        if not rows and not columns:
            return x, 0, 0
        if min(x.shape[-2:]) < multiple:
            raise UserError(f"images of {tuple(x.shape[-2:])} pixels are fewer than {multiple}: take a smaller network")
        top, left = rows // 2, columns // 2
        return F.pad(x, (left, columns - left, top, rows - top), mode="reflect"), top, left


class LabelEmbedding(nn.Module):
    """Sines and cosines of the noise label through a two-layer network; made for labels of a few units, as EDM's."""

    frequencies: Tensor

    def __init__(self, n_out: int, *, n_frequencies: int = 32) -> None:
        super().__init__()
        # The label of EDM spans about [-1.5, 1]: from a third of a period over all of it to two periods per unit.
        self.register_buffer("frequencies", torch.logspace(-2, 2, n_frequencies, base=2.0) * math.pi)
        self.net = nn.Sequential(nn.Linear(2 * n_frequencies, n_out), nn.SiLU(), nn.Linear(n_out, n_out), nn.SiLU())

    def forward(self, label: Tensor) -> Tensor:
        angle = label.float()[:, None] * self.frequencies
        return self.net(torch.cat([angle.cos(), angle.sin()], 1))  # type: ignore[no-any-return]


class ResidualBlock(nn.Module):
    """(x + conv(modulated norm(conv(norm(x))))) / sqrt 2, from n_in to n_out channels."""

    def __init__(self, n_in: int, n_out: int, n_label: int) -> None:
        super().__init__()
        self.norm1 = _norm(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.modulation = nn.Linear(n_label, 2 * n_out)
        self.norm2 = _norm(n_out)
        self.conv2 = _zero(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x)))
        gain, shift = self.modulation(emb)[:, :, None, None].chunk(2, 1)
        h = self.conv2(silu(torch.addcmul(shift, self.norm2(h), 1 + gain)))
        # In place: no gradient needs a convolution's result or a sum, and large maps are slow to allocate and fetch.
        return h.add_(self.shortcut(x)).mul_(math.sqrt(0.5))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """x + multi-head attention over all pixels, zero at the start."""

    def __init__(self, n: int, *, n_head: int = N_HEAD) -> None:
        super().__init__()
        self.n_heads = max(1, n // n_head)
        self.norm = _norm(n)
        self.qkv = nn.Conv2d(n, 3 * n, 1)
        self.out = _zero(nn.Conv2d(n, n, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, n, height, width = x.shape
        qkv = self.qkv(self.norm(x)).flatten(2).view(batch, 3, self.n_heads, n // self.n_heads, height * width)
        q, k, v = qkv.transpose(-1, -2).contiguous().unbind(1)
        h = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(batch, n, height, width)
        return (x + self.out(h)) * math.sqrt(0.5)  # type: ignore[no-any-return]


class _Middle(nn.Module):
    def __init__(self, n: int, n_label: int) -> None:
        super().__init__()
        self.block = ResidualBlock(n, n, n_label)
        self.attention = SelfAttention(n)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))  # type: ignore[no-any-return]


class Downsample(nn.Module):
    """Half the height and width by a strided convolution."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class Upsample(nn.Module):
    """Twice the height and width: nearest neighbour, then a convolution."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))  # type: ignore[no-any-return]


def _encoder(spec: UNet, widths: list[int], n_label: int) -> tuple[nn.ModuleList, list[int]]:
    layers, skips, n = nn.ModuleList(), [widths[0]], widths[0]
    for level, width in enumerate(widths):
        if level:
            layers.append(Downsample(n))
            skips.append(n)
        for _ in range(spec.n_blocks):
            layers.append(ResidualBlock(n, width, n_label))
            skips.append(width)
            n = width
    return layers, skips


def _decoder(spec: UNet, widths: list[int], n_label: int, skips: list[int]) -> nn.ModuleList:
    layers, n, skips = nn.ModuleList(), widths[-1], list(skips)
    for level, width in reversed(list(enumerate(widths))):
        for _ in range(spec.n_blocks + 1):
            layers.append(ResidualBlock(n + skips.pop(), width, n_label))
            n = width
        if level:
            layers.append(Upsample(n))
    return layers


def _norm(n: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(n, max(1, n // 8)), n)


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
