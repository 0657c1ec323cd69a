"""Whether small round structures survive a reconstruction, and whether it invents some.

Structures are the extrema of a difference of Gaussians at their own scale (Marr and Hildreth 1980; Lowe 2004, sections
3 and 4): bright or dark, round rather than parts of an edge or a vessel (by the ratio of principal curvatures), within
the body. The contrast of a structure in an image is that image's response at its place, so its recovery, the share of
the true contrast that is left, is 1 where it is as it was, 0 where it vanished and below 0 where it was inverted. In
PET the same ratio is called contrast recovery (NEMA NU 2). No annotation is needed, and no detector is trusted.

Where nobody knows the truth, the data still do: a structure that they show and an image lacks stands in the residual,
out of what surrounds it there.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

from scoreinv.contract import ImageContract
from scoreinv.linalg import spread
from scoreinv.metrics.image import magnitude
from scoreinv.modality import MODALITIES
from scoreinv.problem import InverseProblem

SURROUND = 1.6
"""Width of the outer Gaussian over that of the inner one (Marr and Hildreth 1980)."""

PEAK = math.exp(-1 / SURROUND**2) - math.exp(-1)
"""Response at the middle of a disc of contrast 1 whose diameter is that of the scale, 0.309."""

ELONGATION = 3.0
"""Largest ratio of principal curvatures of what still counts as round; Lowe allows 10, for corners."""

AROUND = 10.0
"""Width of the surroundings that a structure in a residual must stand out of, in widths of its inner Gaussian."""

UNEXPLAINED = 8.0
"""How far it must, in their root mean square: no image of TV or the preset of held-out people is flagged, and every
disc that the preset's image lacks is (benchmarks/lesions.py). True images of MRI can be: pixels are not points."""

NOISES = 2.0
"""Deviations of noise that nothing is concluded from."""

N_LEAST = 5
"""Structures of the truth below which an image has no score: one of them would decide it."""


class Structures(NamedTuple):
    """What counts: structures of ``diameter`` pixels and of at least ``contrast``, where values above ``foreground``
    are the body's; all on the scale of the images."""

    diameter: float
    contrast: float
    foreground: float

    @property
    def sigma(self) -> float:
        """Width of the inner Gaussian, whose response to such a disc is largest; not below a pixel's."""
        return max(self.diameter / math.sqrt(8), 1.0)


def small_structures(contract: ImageContract) -> Structures | None:
    """Those of the modality that must not vanish, on the scale of the images; None if it names none."""
    traits, low, span = MODALITIES[contract.modality], contract.low, contract.high - contract.low
    if traits.small is None:
        return None
    diameter, contrast = traits.small.diameter_mm / contract.pixel_mm, traits.small.contrast / span
    return Structures(diameter, contrast, foreground=(traits.foreground - low) / span)


def structure_scores(images: Tensor, truth: Tensor, what: Structures) -> dict[str, Tensor]:
    """Of each image, (batch,); NaN where the truth has fewer than ``N_LEAST`` structures.

    ``contrast``: median recovery of the truth's structures. ``contrast_low``: recovery that only a tenth of them fall
    short of. ``invented``: share of the image's own structures of which the truth has less than half the contrast, 0
    if it has none.

    Args:
        images: (batch, n_channels, height, width); complex ones, of two channels, count by their magnitude.
        truth: the same shape.
        what: the structures.

    Raises:
        ValueError: if the shapes differ or are not (batch, n_channels, height, width).
    """
    if images.shape != truth.shape or truth.ndim != 4:
        raise ValueError(
            f"images and truth must be (batch, n_channels, height, width) of one shape, got {tuple(images.shape)} and "
            f"{tuple(truth.shape)}"
        )
    images, truth = magnitude(images.float()), magnitude(truth.float())
    seen, wanted = response(images, what.sigma), response(truth, what.sigma)
    inside = within(truth > what.foreground)
    true_places, own_places = (structures(x, what) & inside for x in (wanted, seen))
    is_scored = true_places.flatten(1).sum(1) >= N_LEAST
    columns = {
        "contrast": _quantiles(seen / wanted, true_places, 0.5),
        "contrast_low": _quantiles(seen / wanted, true_places, 0.1),
        "invented": _shares(wanted / seen < 0.5, own_places),
    }
    return {name: torch.where(is_scored, values, torch.nan) for name, values in columns.items()}


def unexplained(images: Tensor, problem: InverseProblem, what: Structures) -> Tensor:
    """How many structures the data tell of that each image lacks, (batch,), or shows and should not.

    The residual is weighted by its noise and brought back to the image. What a grid cannot explain, and what a method
    leaves of every edge, is all over it; a structure stands out of what is around it there. No threshold depends on the
    noise, so that data which cannot tell of a structure say nothing of it. Contrast does not count.

    Args:
        images: (batch, n_channels, height, width).
        problem: what was measured of them.
        what: the structures.
    """
    found = lacking(images, problem, what.sigma).contrast.flatten(0, 1)[:, None]
    around = _blurred(found.square(), AROUND * what.sigma).sqrt().clamp_min(torch.finfo(found.dtype).tiny)
    height = (found / around).view_as(images).abs().amax(1, keepdim=True)
    stands_out = _peaks(height, what) & (height >= UNEXPLAINED) & within(magnitude(images) > what.foreground)
    return stands_out.flatten(1).sum(1)


class Lacking(NamedTuple):
    """What data would have images show, and how much of that is their noise.

    Attributes:
        contrast: at each pixel, (batch, n_channels, height, width), on the scale of the images.
        noise_std: of these contrasts, (batch,).
    """

    contrast: Tensor
    noise_std: Tensor

    def beyond_noise(self) -> Tensor:
        """The contrasts less what noise may be, ``NOISES`` deviations; 0 where that is all."""
        noise = NOISES * spread(self.noise_std, self.contrast)
        return self.contrast.sign() * (self.contrast.abs() - noise).clamp_min(0)


def lacking(images: Tensor, problem: InverseProblem, sigma: float) -> Lacking:
    """What the data tell of structures that images lack, pixel by pixel: a matched filter of the residual.

    The contrast of a difference of Gaussians at that place alone which explains most of the residual, weighted by its
    noise. What the data show already has left the residual, so it is less than what images lack.

    Args:
        images: (batch, n_channels, height, width).
        problem: what was measured of them.
        sigma: width of the inner Gaussian in pixels.
    """
    weighted = problem.whitened()
    left = weighted.operator.adjoint(weighted.residual(images)).flatten(0, 1)[:, None]
    middle = torch.zeros_like(images)
    middle[:, 0, images.shape[2] // 2, images.shape[3] // 2] = 1
    filter_ = response(middle[:, :1], sigma)
    middle[:, :1] = filter_
    energy = weighted.operator.forward(middle).abs().square().flatten(1).sum(1)
    energy = energy.clamp_min(torch.finfo(energy.dtype).tiny)
    found, peak = response(left, sigma).view_as(images), filter_.amax()
    return Lacking(found * peak / spread(energy, found), weighted.noise_std * peak / energy.sqrt())


def response(images: Tensor, sigma: float) -> Tensor:
    """The difference of Gaussians of widths sigma and ``SURROUND`` sigma, of images (batch, 1, height, width)."""
    return _blurred(images, sigma) - _blurred(images, SURROUND * sigma)


def structures(responses: Tensor, what: Structures) -> Tensor:
    """Bool, like the responses: where a structure has its middle."""
    strength = responses.abs()
    return _peaks(strength, what) & (strength >= PEAK * what.contrast) & _is_round(responses)


def _peaks(strength: Tensor, what: Structures) -> Tensor:
    size = 2 * math.ceil(what.sigma) + 1
    return strength == max_pool2d(strength, size, stride=1, padding=size // 2)


def within(body: Tensor) -> Tensor:
    """Bool, like the body (..., height, width): pixels with body on all four sides, as lungs have, or their own."""
    sides = [
        side for axis in (-2, -1) for side in (body.cummax(axis).values, body.flip(axis).cummax(axis).values.flip(axis))
    ]
    return torch.stack(sides).all(0)


def _is_round(x: Tensor) -> Tensor:
    """Where both principal curvatures have one sign and are nearly equal (Lowe 2004, section 4.1)."""
    wide = pad(x, (1, 1, 1, 1), mode="replicate")
    middle, left, right = wide[..., 1:-1, 1:-1], wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]
    up, down = wide[..., :-2, 1:-1], wide[..., 2:, 1:-1]
    xx, yy = left + right - 2 * middle, up + down - 2 * middle
    xy = (wide[..., 2:, 2:] + wide[..., :-2, :-2] - wide[..., 2:, :-2] - wide[..., :-2, 2:]) / 4
    return (xx + yy).square() * ELONGATION < (ELONGATION + 1) ** 2 * (xx * yy - xy.square())


def _blurred(x: Tensor, sigma: float) -> Tensor:
    n = math.ceil(4 * sigma)
    weights = torch.exp(-(torch.arange(-n, n + 1, dtype=x.dtype, device=x.device) ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    # Edges go on as they end; an image may be smaller than the kernel.
    across = conv2d(pad(x, (n, n, 0, 0), mode="replicate"), weights.view(1, 1, 1, -1))
    return conv2d(pad(across, (0, 0, n, n), mode="replicate"), weights.view(1, 1, -1, 1))


def _quantiles(values: Tensor, places: Tensor, share: float) -> Tensor:
    """Of each image's values at its places, (batch,); NaN without a place."""
    return torch.stack(
        [one.masked_fill(~at, torch.nan).nanquantile(share) for one, at in zip(values, places, strict=True)]
    )


def _shares(flags: Tensor, places: Tensor) -> Tensor:
    """How many of each image's places are flagged, (batch,); 0 without a place."""
    return (flags & places).flatten(1).sum(1) / places.flatten(1).sum(1).clamp_min(1)
