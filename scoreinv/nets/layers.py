"""Layers that the networks share, as functions of feature maps (batch, channels, height, width).

Names: ``n_in`` and ``n_out`` channels, ``n_embedding`` features of the embedded noise level. Initial
weights follow NCSN++ (Song et al. 2021, arXiv:2011.13456): uniform with the variance
scale / mean(fan in, fan out), biases 0; a scale of 0 stands for 1e-10, so that gradients still pass.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoreinv.errors import UserError

ZERO_SCALE = 1e-10
"""What "initialised to zero" means in NCSN++; exact zeros would stop the gradient behind them."""

ATTENTION_SCALE = 0.1
"""Initial scale of query, key and value, so that attention starts almost uniform (Ho et al. 2020, released code)."""


def conv(n_in: int, n_out: int, size: int, *, scale: float = 1.0) -> nn.Conv2d:
    """A convolution with size x size weights that keeps height and width."""
    layer = nn.Conv2d(n_in, n_out, size, padding=size // 2)
    _initialise(layer, scale)
    return layer


def dense(n_in: int, n_out: int, *, scale: float = 1.0) -> nn.Linear:
    """A fully connected layer."""
    layer = nn.Linear(n_in, n_out)
    _initialise(layer, scale)
    return layer


def _initialise(layer: nn.Conv2d | nn.Linear, scale: float) -> None:
    nn.init.xavier_uniform_(layer.weight, gain=math.sqrt(max(scale, ZERO_SCALE)))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 4 channels, but never more than 32 groups.

    Raises:
        ValueError: if the channels do not divide so.
    """
    groups = max(1, min(channels // 4, 32))
    if channels % groups:
        raise UserError(f"{channels} channels do not divide into {groups} groups: use multiples of 32 channels")
    return nn.GroupNorm(groups, channels, eps=1e-6)


def fir_down(x: Tensor) -> Tensor:
    """Half the height and width, low-pass filtered by [1, 3, 3, 1] / 8 along both (Zhang 2019, arXiv:1904.11486).

    Outside the image counts as 0, as in StyleGAN 2 and NCSN++: a constant is kept except in the outermost pixels.
    """
    channels = x.shape[1]
    return F.conv2d(x, _fir(x) / 64, stride=2, padding=1, groups=channels)


def fir_up(x: Tensor) -> Tensor:
    """Twice the height and width, interpolated by [1, 3, 3, 1] / 4 along both: 4 times fir_down's transpose."""
    channels = x.shape[1]
    return F.conv_transpose2d(x, _fir(x) / 16, stride=2, padding=1, groups=channels)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x); where no gradient is wanted x itself is overwritten, which spares the memory of a large map."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


def keep_size(x: Tensor) -> Tensor:
    """x, where a block could also resample."""
    return x


def _fir(x: Tensor) -> Tensor:
    """[1, 3, 3, 1] along both axes, for each channel. Computed where x lies: a buffer would need loading or copying."""
    i = torch.arange(4, device=x.device, dtype=x.dtype)
    taps = 1 + i * (3 - i)
    return (taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)


class FourierEmbedding(nn.Module):
    """Sine and cosine of 2 pi w label, (batch,) -> (batch, 2 n_frequencies), with fixed random w ~ N(0, scale^2).

    Tancik et al. 2020, arXiv:2006.10739. The frequencies are a buffer: stored with the weights, never trained.
    """

    frequencies: Tensor

    def __init__(self, n_frequencies: int, *, scale: float) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(n_frequencies))

    def forward(self, label: Tensor) -> Tensor:
        phase = 2 * math.pi * label[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=1)


class Attention(nn.Module):
    """(x + self-attention of one head over all pixels) / sqrt 2 (Ho et al. 2020, arXiv:2006.11239)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.query = conv(channels, channels, 1, scale=ATTENTION_SCALE)
        self.key = conv(channels, channels, 1, scale=ATTENTION_SCALE)
        self.value = conv(channels, channels, 1, scale=ATTENTION_SCALE)
        self.out = conv(channels, channels, 1, scale=0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        query, key, value = (f(h).flatten(2).transpose(1, 2) for f in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        return result / math.sqrt(2)


class ResidualBlock(nn.Module):
    """(shortcut(x) + h) / sqrt 2, with h two normalised convolutions that are told the noise level.

    BigGAN's block (Brock et al. 2019, arXiv:1809.11096) as NCSN++ has it: where it resamples, ``resample``
    acts on x and on h before the first convolution.
    """

    def __init__(
        self, n_in: int, n_out: int, n_embedding: int, resample: Callable[[Tensor], Tensor] = keep_size
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in, self.norm_out = group_norm(n_in), group_norm(n_out)
        self.conv_in, self.conv_out = conv(n_in, n_out, 3), conv(n_out, n_out, 3, scale=0)
        self.embed = dense(n_embedding, n_out)
        is_plain = n_in == n_out and resample is keep_size
        self.shortcut = nn.Identity() if is_plain else conv(n_in, n_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Feature maps (batch, n_out, ...) of x (batch, n_in, ...) and embedding (batch, n_embedding)."""
        h = self.resample(silu(self.norm_in(x)))
        h = self.conv_in(h) + self.embed(F.silu(embedding))[:, :, None, None]
        h = self.conv_out(silu(self.norm_out(h)))
        result: Tensor = self.shortcut(self.resample(x)) + h
        return result / math.sqrt(2)
