"""Low frequencies of images: what is cut out comes back, nothing else does, and white noise stays white."""

import pytest
import torch

from scoreinv.band import from_band, low_band

SIZES = ((240, 64), (60, 15), (33, 16), (32, 31))


def waves(size: int, *frequencies: tuple[int, int]) -> torch.Tensor:
    """A sum of cosines, (1, 1, size, size), of whole numbers of periods along each side."""
    t = 2 * torch.pi * torch.arange(size) / size
    return sum((torch.cos(k * t[:, None] + m * t + k) for k, m in frequencies), torch.zeros(size, size))[None, None]


@pytest.mark.parametrize(("size", "band"), SIZES)
def test_waves_within_the_band_are_those_of_the_coarse_grid(size: int, band: int) -> None:
    inside, outside = ((0, 0), (3, -5), (1, 6)), ((0, band // 2 + 1), (-(size // 2 - 1), 2))
    found = low_band(waves(size, *inside, *outside) if band < size - 2 else waves(size, *inside), band)
    torch.testing.assert_close(found, waves(band, *inside), atol=1e-4, rtol=0)
    torch.testing.assert_close(from_band(found, size), waves(size, *inside), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("size", "band"), SIZES)
def test_noise_is_white_and_smaller_by_the_ratio_of_the_sides(size: int, band: int) -> None:
    noise = torch.randn(256, 1, size, size, generator=torch.Generator().manual_seed(0))
    low = low_band(noise, band)
    assert float(low.std()) == pytest.approx(band / size, rel=0.04)
    power = torch.fft.fft2(low).abs().square().mean(0)[0]
    assert float(power[1:4, 1:4].mean() / power.mean()) == pytest.approx(1, abs=0.15)


def test_all_comes_back_but_the_frequency_whose_sign_is_unknown() -> None:
    low = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    back = low_band(from_band(low, 50), 16)
    alternating = (-1.0) ** torch.arange(16)
    assert float((back * alternating).mean(-1).abs().max()) < 1e-6
    smooth = low - (low * alternating).mean(-1, keepdim=True) * alternating
    smooth -= (smooth * alternating[:, None]).mean(-2, keepdim=True) * alternating[:, None]
    torch.testing.assert_close(back, smooth, atol=1e-6, rtol=0)
