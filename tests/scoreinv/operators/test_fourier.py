import math

import pytest
import torch

from scoreinv.operators.fourier import fft2c, frequencies, ifft2c, mirror, resample_spectrum

shapes = pytest.mark.parametrize("shape", [(8, 8), (9, 9), (8, 9), (9, 8)])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@shapes
def test_orthonormal_and_invertible(shape: tuple[int, int]) -> None:
    x = noise(2, 1, *shape)
    kspace = fft2c(x)
    torch.testing.assert_close(kspace.abs().square().sum(), x.square().sum())
    torch.testing.assert_close(ifft2c(kspace).real, x)


@shapes
def test_delta_at_the_centre_is_constant_and_back(shape: tuple[int, int]) -> None:
    delta = torch.zeros(shape, dtype=torch.float64)
    delta[shape[0] // 2, shape[1] // 2] = 1
    flat = torch.full(shape, 1 / math.sqrt(shape[0] * shape[1]), dtype=torch.complex128)
    torch.testing.assert_close(fft2c(delta), flat)
    torch.testing.assert_close(fft2c(flat).real, delta)


@shapes
def test_plane_wave_is_one_frequency(shape: tuple[int, int]) -> None:
    rows, columns = frequencies(shape[0])[:, None], frequencies(shape[1])
    wave = torch.exp(2j * math.pi * (rows * 2 / shape[0] - columns * 3 / shape[1]))
    kspace = fft2c(wave).abs()
    assert divmod(int(kspace.argmax()), shape[1]) == (shape[0] // 2 + 2, shape[1] // 2 - 3)
    torch.testing.assert_close(kspace.max(), torch.tensor(math.sqrt(shape[0] * shape[1]), dtype=torch.float64))


@shapes
def test_real_images_have_conjugate_mirrors(shape: tuple[int, int]) -> None:
    kspace = fft2c(noise(3, *shape))
    torch.testing.assert_close(mirror(kspace), kspace.conj())
    assert not torch.allclose(kspace.flip(-1).flip(-2), kspace.conj()) or shape[0] % 2 + shape[1] % 2 == 2


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("factor", [2, 3])
def test_resampled_spectrum_of_a_wave_is_that_of_the_coarse_wave(size: int, factor: int) -> None:
    """A slow wave, sampled at the pixel centres of both grids, has one spectrum on the coarse one."""

    def wave(n: int) -> torch.Tensor:
        grid = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return torch.cos(2 * math.pi * (3 * grid + 0.1)) + torch.sin(2 * math.pi * 2 * grid[:, None])

    torch.testing.assert_close(resample_spectrum(fft2c(wave(factor * size)), size), fft2c(wave(size)))
