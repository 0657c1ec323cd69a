"""Resampling has the filter's frequency response; attention is a plain loop; blocks start as their shortcut."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from scoreinv.nets.layers import Attention, FourierEmbedding, ResidualBlock, conv, dense, fir_down, fir_up, group_norm

Resample = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def wave(frequency: float, positions: Tensor) -> Tensor:
    """cos(frequency n) along the rows, constant along the columns, (1, 1, n, n)."""
    return torch.cos(frequency * positions)[None, None, :, None].expand(1, 1, -1, len(positions)).clone()


def test_a_constant_survives_resampling_except_at_the_border() -> None:
    ones = torch.full((1, 2, 8, 8), 3.0)
    assert torch.equal(fir_down(ones)[..., 1:-1, 1:-1], torch.full((1, 2, 2, 2), 3.0))
    assert torch.equal(fir_up(ones)[..., 1:-1, 1:-1], torch.full((1, 2, 14, 14), 3.0))


def test_outside_the_image_counts_as_zero() -> None:
    ones = torch.ones(1, 1, 8, 8)
    assert fir_down(ones)[0, 0, 0, 1] == 7 / 8
    assert fir_down(ones)[0, 0, 0, 0] == (7 / 8) ** 2
    assert fir_up(ones)[0, 0, 0, 5] == 3 / 4


@pytest.mark.parametrize("frequency", [0.0, 0.3, math.pi / 2, 2.5, math.pi])
def test_halving_has_the_frequency_response_cos_cubed(frequency: float) -> None:
    n = torch.arange(32, dtype=torch.float64)
    halved = fir_down(wave(frequency, n))[0, 0, 1:-1, 5]
    centres = 2 * n[1:15] + 0.5
    expected = math.cos(frequency / 2) ** 3 * torch.cos(frequency * centres)
    torch.testing.assert_close(halved, expected, atol=1e-12, rtol=0)


def test_doubling_interpolates_linearly() -> None:
    ramp = torch.arange(8.0)[None, None, :, None].expand(1, 1, 8, 8)
    expected = torch.arange(16.0)[1:-1] / 2 - 0.25
    torch.testing.assert_close(fir_up(ramp)[0, 0, 1:-1, 4], expected)


@pytest.mark.parametrize("frequency", [0.0, 0.1, 1.0, math.pi])
def test_halving_the_doubled_keeps_slow_waves_and_damps_fast_ones(frequency: float) -> None:
    """The two filters in a row are [3, 10, 3] / 16 on the coarse grid, whose response is (5 + 3 cos) / 8."""
    x = wave(frequency, torch.arange(64, dtype=torch.float64))
    gain = (5 + 3 * math.cos(frequency)) / 8
    torch.testing.assert_close(fir_down(fir_up(x))[..., 2:-2, 2:-2], gain * x[..., 2:-2, 2:-2])


def test_doubling_is_four_times_the_adjoint_of_halving() -> None:
    x, y = torch.randn(2, 3, 6, 8, dtype=torch.float64), torch.randn(2, 3, 12, 16, dtype=torch.float64)
    torch.testing.assert_close((fir_up(x) * y).sum(), 4 * (x * fir_down(y)).sum())


@pytest.mark.parametrize("resample", [fir_up, fir_down])
def test_resampling_treats_channels_alone_and_half_precision_exactly(resample: Resample) -> None:
    x = torch.randint(0, 4, (2, 3, 8, 8)).float()
    alone = torch.cat([resample(x[:, i : i + 1]) for i in range(3)], dim=1)
    assert torch.equal(resample(x), alone)
    torch.testing.assert_close(resample(x.bfloat16()).float(), alone, rtol=2**-8, atol=0)


@pytest.mark.parametrize(("channels", "groups"), [(2, 1), (8, 2), (64, 16), (128, 32), (768, 32)])
def test_groups_hold_four_channels_up_to_32_groups(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


def test_channels_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="140 channels do not divide into 32 groups"):
        group_norm(140)


@pytest.mark.parametrize("scale", [1.0, 0.1])
@pytest.mark.parametrize("layer", ["conv", "dense"])
def test_initial_weights_are_uniform_with_variance_scale_over_mean_fan(layer: str, scale: float) -> None:
    made = conv(40, 80, 3, scale=scale) if layer == "conv" else dense(400, 300, scale=scale)
    mean_fan = 9 * 60 if layer == "conv" else 350
    variance = scale / mean_fan
    assert made.weight.var().item() == pytest.approx(variance, rel=0.03)
    assert made.weight.abs().max().item() == pytest.approx(math.sqrt(3 * variance), rel=0.01)
    assert made.bias is not None
    assert not made.bias.any()


def test_zero_scale_is_small_but_not_zero() -> None:
    largest = conv(8, 8, 3, scale=0).weight.abs().max().item()
    assert 0 < largest < 1e-5


def test_fourier_embedding_is_sines_then_cosines_of_stored_frequencies() -> None:
    embedding = FourierEmbedding(4, scale=16.0)
    phase = 2 * math.pi * 0.3 * embedding.frequencies
    expected = torch.cat([torch.sin(phase), torch.cos(phase)])
    torch.testing.assert_close(embedding(torch.tensor([0.0, 0.3]))[1], expected, atol=1e-4, rtol=0)
    assert torch.equal(embedding(torch.zeros(1))[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert not list(embedding.parameters())
    assert "frequencies" in embedding.state_dict()


def test_fourier_frequencies_have_the_given_spread() -> None:
    assert FourierEmbedding(20_000, scale=16.0).frequencies.std().item() == pytest.approx(16.0, rel=0.03)


def test_attention_equals_a_loop_over_pixels() -> None:
    attention = Attention(4).double()
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(attention(x), _attention_by_loops(attention, x))


def _attention_by_loops(attention: Attention, x: Tensor) -> Tensor:
    h = attention.norm(x)
    query, key, value = attention.query(h), attention.key(h), attention.value(h)
    pixels = [(i, j) for i in range(x.shape[2]) for j in range(x.shape[3])]
    mixed = torch.zeros_like(x)
    for b in range(len(x)):
        for i, j in pixels:
            logits = torch.stack([query[b, :, i, j] @ key[b, :, k, m] / math.sqrt(x.shape[1]) for k, m in pixels])
            weights = torch.softmax(logits, dim=0)
            mixed[b, :, i, j] = sum(w * value[b, :, k, m] for w, (k, m) in zip(weights, pixels, strict=True))
    result: Tensor = x + attention.out(mixed)
    return result / math.sqrt(2)


def test_attention_starts_as_a_rescaled_identity() -> None:
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(Attention(8)(x), x / math.sqrt(2), atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_out", [8, 16])
@pytest.mark.parametrize("resample", [fir_up, fir_down, None])
def test_a_residual_block_starts_as_its_rescaled_shortcut(n_out: int, resample: Resample | None) -> None:
    block = ResidualBlock(8, n_out, 12, resample) if resample else ResidualBlock(8, n_out, 12)
    x = torch.randn(2, 8, 8, 8)
    expected = block.shortcut(resample(x) if resample else x) / math.sqrt(2)
    torch.testing.assert_close(block(x, torch.randn(2, 12)), expected, atol=1e-3, rtol=0)
    assert isinstance(block.shortcut, nn.Identity) == (resample is None and n_out == 8)


def test_a_residual_block_hears_the_embedding_of_its_own_image() -> None:
    block = ResidualBlock(8, 8, 12)
    nn.init.normal_(block.conv_out.weight)
    x, embedding = torch.randn(1, 8, 8, 8).expand(2, -1, -1, -1), torch.randn(2, 12)
    told_alike, told_apart = block(x, embedding[:1].expand(2, -1)), block(x, embedding)
    torch.testing.assert_close(told_alike[0], told_apart[0])
    assert (told_alike[1] - told_apart[1]).abs().max() > 0.1
