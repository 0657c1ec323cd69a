"""The centred orthonormal two-dimensional Fourier transform.

    K(u, v) = 1 / sqrt(H W) sum_{r, c} x(r, c) exp(-2 pi i (u (r - H//2) / H + v (c - W//2) / W))

The origin is at (H//2, W//2) in both domains, for even and odd sizes. A real image has the spectrum
K(-u, -v) = conj K(u, v).
"""

import torch
from torch import Tensor

PLANE = (-2, -1)


def fft2c(x: Tensor) -> Tensor:
    """Spectrum (..., height, width), complex, with the zero frequency at (height//2, width//2)."""
    kspace: Tensor = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, PLANE), norm="ortho"), PLANE)
    return kspace


def ifft2c(kspace: Tensor) -> Tensor:
    """Complex image (..., height, width) of a spectrum: the inverse and the adjoint of ``fft2c``."""
    x: Tensor = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, PLANE), norm="ortho"), PLANE)
    return x


def mirror(spectrum: Tensor) -> Tensor:
    """The values (..., height, width) at the negative frequencies: K(-u, -v)."""
    for axis in PLANE:
        spectrum = spectrum.flip(axis).roll(1 - spectrum.shape[axis] % 2, axis)
    return spectrum


def frequencies(size: int) -> Tensor:
    """Integer frequencies (size,), float64, in the order of ``fft2c``: -(size//2) to (size - 1)//2."""
    return torch.arange(size, dtype=torch.float64) - size // 2


def resample_spectrum(kspace: Tensor, size: int) -> Tensor:
    """Spectrum (..., size, size) that a scanner with pixels ``factor`` times larger sees of the same object.

    The centre is cut out and scaled so that an image of constant value keeps it. The two grids share
    their corners, not the pixel at their origin; a phase moves the origin onto the coarse one.

    Args:
        kspace: orthonormal spectrum (..., factor * size, factor * size) of the fine image.
        size: of the coarse image.
    """
    fine = kspace.shape[-1]
    factor = fine / size
    start = fine // 2 - size // 2
    centre = kspace[..., start : start + size, start : start + size] / factor
    shift = (fine // 2 + 0.5) / factor - 0.5 - size // 2
    ramp = torch.exp(-2j * torch.pi * frequencies(size) * shift / size).to(kspace)
    return centre * ramp * ramp[:, None]


def as_complex(x: Tensor) -> Tensor:
    """Images (batch, 1, ...) with complex values where there are two channels, their real and imaginary part.

    Real images (batch, 1, ...) stay as they are.
    """
    return x if x.shape[1] == 1 else torch.complex(x[:, :1], x[:, 1:])


def as_channels(x: Tensor, n_channels: int) -> Tensor:
    """The adjoint of ``as_complex``: real images (batch, n_channels, ...) of complex ones (batch, 1, ...)."""
    return x.real if n_channels == 1 else torch.cat([x.real, x.imag], 1)
