"""The low frequencies of images, as images on a coarser grid, and back.

An image of n x n pixels is cut to the m x m lowest frequencies of its Fourier series, which are those of an image of
m x m pixels over the same field. White noise stays white there, with m / n of its deviation: its mean square on each
frequency is what it was.
"""

import torch
from torch import Tensor


def low_band(images: Tensor, size: int) -> Tensor:
    """The frequencies from -size/2 up to size/2 of images (..., n, n), n > size, as images (..., size, size)."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(images.float(), norm="forward"), dim=(-2, -1))
    rows, columns = (_middle(n, size) for n in images.shape[-2:])
    band = torch.fft.ifftshift(spectrum[..., rows, columns], dim=(-2, -1))
    low: Tensor = torch.fft.ifft2(band, norm="forward").real
    return low


def from_band(low: Tensor, size: int) -> Tensor:
    """Images (..., size, size) that have the frequencies of ``low`` (..., m, m), m < size, and no others.

    The frequency -m/2, of which ``low`` cannot tell the sign, is left out: ``low_band`` gives all others back.
    """
    spectrum = torch.fft.fftshift(torch.fft.fft2(low.float(), norm="forward"), dim=(-2, -1))
    whole = spectrum.new_zeros(*low.shape[:-2], size, size)
    rows, columns = (_middle(size, n) for n in low.shape[-2:])
    whole[..., rows, columns] = spectrum
    if low.shape[-1] % 2 == 0:
        whole[..., rows.start, :] = 0
        whole[..., :, columns.start] = 0
    images: Tensor = torch.fft.ifft2(torch.fft.ifftshift(whole, dim=(-2, -1)), norm="forward").real
    return images


def _middle(n: int, size: int) -> slice:
    """Where so many frequencies lie around 0 among n."""
    start = n // 2 - size // 2
    return slice(start, start + size)
