"""k-space of single-coil MRI as the reconstructors for it share it: images and spectra of two channels, real and
imaginary part, and steps that put the measured numbers back."""

import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.operators.fourier import as_channels, as_complex, fft2c, ifft2c
from scoreinv.operators.mri import CartesianMRIOperator
from scoreinv.problem import InverseProblem


class MeasuredSpectrum:
    """The measured numbers of a problem, and where they lie.

    Attributes:
        y: (batch, 1, height, width), complex.
        mask: bool (1, height, width).
    """

    def __init__(self, problem: InverseProblem) -> None:
        """Take the data of single-coil MRI.

        Raises:
            UserError: if they are others.
        """
        if not isinstance(problem.operator, CartesianMRIOperator):
            raise UserError("this reconstructor needs k-space of one coil: choose measurement.kind='cartesian_mri'")
        self.y = problem.y
        self.mask = problem.operator.mask
        self.n_channels = problem.operator.image_shape[0]

    def zero_filled(self) -> Tensor:
        """The image (batch, 2, height, width) of the measured numbers alone."""
        return as_channels(ifft2c(self.y), 2)

    def kept(self, spectrum: Tensor) -> Tensor:
        """A spectrum (batch, 2, height, width) with what was measured in place."""
        return as_channels(torch.where(self.mask, self.y, as_complex(spectrum)), 2)

    def consistent(self, x: Tensor) -> Tensor:
        """An image (batch, 2, height, width) that explains the data."""
        return image_of(self.kept(spectrum_of(x)))

    def shown(self, x: Tensor) -> Tensor:
        """An image (batch, 2, ...) as the problem's images are: of real ones the real part."""
        return x[:, : self.n_channels]


def spectrum_of(x: Tensor) -> Tensor:
    """Spectrum of images, both (batch, 2, height, width)."""
    return as_channels(fft2c(as_complex(x)), 2)


def image_of(spectrum: Tensor) -> Tensor:
    """Images of a spectrum, both (batch, 2, height, width)."""
    return as_channels(ifft2c(as_complex(spectrum)), 2)


def complex_images(images: Tensor) -> Tensor:
    """Images (batch, 2, height, width) of those with one channel, which are real, or two."""
    return images if images.shape[1] == 2 else torch.cat([images, torch.zeros_like(images)], 1)
