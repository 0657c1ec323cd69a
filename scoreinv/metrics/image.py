"""How near images are to the truth.

All functions take images and truth (batch, n_channels, height, width), compute in float64, and return one value
per image, (batch,). Complex images, of two channels, count by their magnitude. The range of the values,
``data_range``, is always given and never guessed from an image: guessing hides errors of scale and makes numbers
incomparable.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
"""Wang, Bovik, Sheikh and Simoncelli 2004, section III.C."""

SSIM_DOWNSAMPLED_SIDE = 256
"""Images are brought near this size before SSIM is taken (the author's ssim.m; also piq's default)."""

N_HISTOGRAM_BINS, FIRST_TISSUE_BIN = 255, 75
"""Where air ends and tissue begins in the histogram (Wei et al. 2020, arXiv:2012.04743, their evaluation)."""

Variant = Literal["plain", "circle", "circle_peaks"]


def psnr(images: Tensor, truth: Tensor, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range^2 / MSE); infinite where the two are equal.

    Raises:
        ValueError: if the shapes differ or are not (batch, n_channels, height, width), if values are complex, or if
            ``data_range`` is not positive. This holds for all metrics here.
    """
    images, truth = _checked(images, truth, data_range)
    return 10 * torch.log10(data_range**2 / _mean_square(images - truth))


def volume_psnr(images: Tensor, truth: Tensor, *, lowest: Tensor, highest: Tensor) -> Tensor:
    """``psnr`` on the scale of Song et al. 2022 (arXiv:2111.08005), where every volume spans 0 to 1.

    That is 10 log10((highest - lowest)^2 / MSE), of values clipped to [lowest, highest]: by
    20 log10((highest - lowest) / data_range) dB more than ``psnr`` where nothing is clipped. NaN where a volume is
    constant.

    Args:
        images: (batch, 1, height, width).
        truth: the same shape.
        lowest: of the values of each image's whole volume, (batch,).
        highest: likewise.
    """
    images, truth = _checked(images, truth, data_range=1.0)
    low, high = (limit.to(truth).view(-1, 1, 1, 1) for limit in (lowest, highest))
    error = _mean_square(images.clamp(low, high) - truth.clamp(low, high))
    span = (high - low).flatten()
    return torch.where(span > 0, 10 * torch.log10(span**2 / error), torch.nan)


def nmse(images: Tensor, truth: Tensor) -> Tensor:
    """Normalised mean squared error, |image - truth|^2 / |truth|^2."""
    images, truth = _checked(images, truth, data_range=1.0)
    return _mean_square(images - truth) / _mean_square(truth)


def ssim(images: Tensor, truth: Tensor, *, data_range: float, downsample: bool = False) -> Tensor:
    """Structural similarity (Wang et al. 2004), averaged over the windows that lie inside the image.

    Windows are Gaussian, 11 x 11, sigma 1.5; moments are those of the weights (not of a sample).

    Args:
        images: (batch, n_channels, height, width).
        truth: the same shape.
        data_range: the span of valid values.
        downsample: first average over squares of round(min(height, width) / 256) pixels, if that is more than 1.

    Raises:
        ValueError: as for ``psnr``, and if a side is shorter than the window.
    """
    images, truth = _checked(images, truth, data_range)
    if downsample:
        images, truth = _downsampled(images), _downsampled(truth)
    if min(truth.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} pixels along each side, got {tuple(truth.shape[-2:])}")
    return _ssim_map(images, truth, data_range).flatten(1).mean(1)


def class_errors(
    images: Tensor, truth: Tensor, *, classes: Mapping[str, tuple[float, float]], n_least: int = 16
) -> dict[str, Tensor]:
    """Mean absolute error of the pixels whose truth lies in each class, from low to below high.

    NaN where an image has fewer than ``n_least`` such pixels: a few that noise threw into a class are none of it.

    Args:
        images: (batch, n_channels, height, width).
        truth: the same shape.
        classes: by name, (low, high), on the scale of the images.
        n_least: pixels.
    """
    images, truth = (x.flatten(1) for x in _checked(images, truth, data_range=1.0))
    error = (images - truth).abs()
    members = {name: (truth >= low) & (truth < high) for name, (low, high) in classes.items()}
    counts = {name: inside.sum(1) for name, inside in members.items()}
    return {
        name: torch.where(counts[name] >= n_least, (error * inside).sum(1) / counts[name], torch.nan)
        for name, inside in members.items()
    }


def scale_error(images: Tensor, truth: Tensor) -> Tensor:
    """How many dB of PSNR the best a * image + b gains over the image itself; 0 or more.

    More than 0.5 dB says that the values are off by a scale or an offset rather than in structure.
    """
    images, truth = _checked(images, truth, data_range=1.0)
    fitted = _mean_square(_affine_fit(images, truth) - truth)
    plain = _mean_square(images - truth)
    return torch.where(plain > 0, 10 * torch.log10(plain / fitted), 0.0).clamp_min(0)


def published_scores(images: Tensor, truth: Tensor, *, data_range: float, variant: Variant) -> dict[str, Tensor]:
    """``psnr`` and ``ssim`` as Song et al. 2022 (arXiv:2111.08005) evaluate them, in one of three variants.

    ``plain``: values clipped to [0, data_range]. ``circle``: then also zero outside the inscribed circle.
    ``circle_peaks``: values are first mapped so that the most frequent value of air is 0 and that of tissue
    is 1; NaN without any tissue. SSIM is taken after down-sampling. ``plain`` is the one to compare methods by.
    """
    images, truth = (x.clamp(0, data_range) / data_range for x in _checked(images, truth, data_range))
    if variant == "circle_peaks":
        images, truth = _peak_normalised(images, truth)
    if variant != "plain":
        circle = inscribed_circle(truth)
        images, truth = images * circle, truth * circle
    return {"psnr": psnr(images, truth, data_range=1.0), "ssim": ssim(images, truth, data_range=1.0, downsample=True)}


def inscribed_circle(like: Tensor) -> Tensor:
    """Bool (height, width): which pixel centres lie in the largest circle inside ``like`` (..., height, width)."""
    height, width = like.shape[-2:]
    rows = torch.arange(height, device=like.device) - (height - 1) / 2
    columns = torch.arange(width, device=like.device) - (width - 1) / 2
    return rows[:, None] ** 2 + columns**2 <= (min(height, width) / 2) ** 2


def magnitude(x: Tensor) -> Tensor:
    """Images (batch, 1, height, width) of the length over the channels; of one channel as they are, with their sign."""
    return x if x.shape[1] == 1 else x.square().sum(1, keepdim=True).sqrt()


def _checked(images: Tensor, truth: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    if images.shape != truth.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)} but the truth has {tuple(truth.shape)}: compare equal grids"
        )
    if truth.ndim != 4:
        raise ValueError(f"metrics need images (batch, n_channels, height, width), got {tuple(truth.shape)}")
    if images.is_complex() or truth.is_complex():
        raise ValueError("metrics need real images: give the real and the imaginary part as two channels")
    if not 0 < data_range < float("inf"):
        raise ValueError(f"data_range must be positive, got {data_range}: pass the span of valid values, such as 1.0")
    return magnitude(images.double()), magnitude(truth.double())


def _mean_square(x: Tensor) -> Tensor:
    return x.square().flatten(1).mean(1)


def _downsampled(x: Tensor) -> Tensor:
    factor = max(1, round(min(x.shape[-2:]) / SSIM_DOWNSAMPLED_SIDE))
    return avg_pool2d(x, factor) if factor > 1 else x


def _ssim_map(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    c1, c2 = (SSIM_K1 * data_range) ** 2, (SSIM_K2 * data_range) ** 2
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (var_a + var_b + c2)


def _blurred(x: Tensor) -> Tensor:
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    return conv2d(conv2d(x, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))


def _affine_fit(images: Tensor, truth: Tensor) -> Tensor:
    a, b = images.flatten(1), truth.flatten(1)
    mean_a, mean_b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    covariance = ((a - mean_a) * (b - mean_b)).sum(1, keepdim=True)
    variance = (a - mean_a).square().sum(1, keepdim=True)
    slope = torch.where(variance > 0, covariance / variance, 0.0)
    return (slope * (a - mean_a) + mean_b).view_as(images)


def _peak_normalised(images: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    images, truth = _peaks_to_unit(images).clamp_min(0), _peaks_to_unit(truth).clamp_min(0)
    top = truth.flatten(1).amax(1).view(-1, 1, 1, 1)
    return images.minimum(top) / top, truth / top


def _peaks_to_unit(x: Tensor) -> Tensor:
    """Map each image's two modes to 0 and 1.

    The histograms span [0, 1]; in the published code they span each image's own values but are read as if
    they spanned [0, 1], which is the same for images that reach both ends.
    """
    histograms = torch.stack([torch.histc(image, bins=N_HISTOGRAM_BINS, min=0, max=1) for image in x])
    air = histograms[:, :FIRST_TISSUE_BIN].argmax(1)
    tissue = histograms[:, FIRST_TISSUE_BIN:].argmax(1) + FIRST_TISSUE_BIN
    low, high = (peak.view(-1, 1, 1, 1).double() / N_HISTOGRAM_BINS for peak in (air, tissue))
    return (x - low) / (high - low)
