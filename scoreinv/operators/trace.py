"""The trace of metal in a sinogram: which rays it hides, found in the data, and what would be there without it.

Metal is what exceeds a threshold in the blurred filtered backprojection of the data themselves, grown by a pixel. A ray
counts for 1 - its length in there, in pixel sides, and for nothing where that is more than one: at the edge, where rays
graze the metal, they count for less and less.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, conv2d, max_pool2d, pad

BLUR = 1.0
"""The deviation, in pixels, of the Gaussian that takes the streaks between views away and leaves small metal."""

STREAK = 1.5
"""What a streak of one view may reach, relative to the brightest metal's share in a view."""


def metal_in(hu: Tensor, threshold: float, *, n_views: int) -> Tensor:
    """Where metal is in images (batch, 1, height, width) by filtered backprojection, bool, in Hounsfield units."""
    smooth = blurred(hu, BLUR)
    streaks = STREAK / n_views * hu.amax((-2, -1), keepdim=True)
    return grown(smooth > streaks.clamp_min(threshold))


def grown(mask: Tensor, n_pixels: int = 1) -> Tensor:
    """Bool masks (..., height, width), grown by so many pixels in all eight directions."""
    flat = mask.float().flatten(0, -3) if mask.ndim > 3 else mask.float()
    return max_pool2d(flat, 2 * n_pixels + 1, stride=1, padding=n_pixels).view(mask.shape) > 0


def seen_beside(lengths: Tensor) -> Tensor:
    """What each ray counts for, from 1 (seen) to 0 (hidden), by its length in the metal in pixel sides."""
    return (1 - lengths).clamp(0, 1)


def interpolated(y: Tensor, seen: Tensor, *, n_beside: int = 1) -> Tensor:
    """Sinograms whose hidden rays lie on a line between the nearest ones of their view that are wholly seen.

    (Kalender, Hebel and Ebersberger 1987, doi:10.1148/radiology.164.2.3602406.)

    Args:
        y: (..., n_bins), each ray times what it counts for.
        seen: what it counts for, 0 to 1; broadcasts to y.
        n_beside: whose mean a line begins and ends with, of the rays on either side.
    """
    is_known = (seen == 1).expand_as(y)
    return y + (1 - seen) * across(_means_of_known(y, is_known, n_beside), is_known)


def _means_of_known(y: Tensor, is_known: Tensor, n: int) -> Tensor:
    """Each value (..., n_bins) with its n - 1 neighbours on either side, as far as they are known."""
    if n == 1:
        return y
    sums, counts = (
        avg_pool1d(one.flatten(0, -2)[:, None], 2 * n - 1, stride=1, padding=n - 1).view_as(y)
        for one in (y.where(is_known, 0.0), is_known.to(y))
    )
    return sums / counts.clamp_min(1e-6)


def across(y: Tensor, is_known: Tensor) -> Tensor:
    """Values (..., n_bins) that are kept where they are known, lie on lines between, and are constant beyond the last.

    Where none of a row is known, it is 0.
    """
    n = y.shape[-1]
    places = torch.arange(n, device=y.device).expand_as(is_known)
    left = places.where(is_known, -1).cummax(-1).values
    right = places.where(is_known, n).flip(-1).cummin(-1).values.flip(-1)
    left, right = left.where(left >= 0, right), right.where(right < n, left)
    kept = y.where(is_known, 0.0)
    low, high = (kept.gather(-1, at.clamp(0, n - 1)) for at in (left, right))
    return torch.lerp(low, high, ((places - left) / (right - left).clamp_min(1)).clamp(0, 1).to(y))


def blurred(x: Tensor, std: float) -> Tensor:
    """Images (batch, n_channels, height, width) under a Gaussian, constant beyond their edges."""
    reach = int(3 * std + 1)
    weights = torch.exp(-((torch.arange(-reach, reach + 1) / std) ** 2) / 2).to(x)
    weights = weights / weights.sum()
    wide = pad(x.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(wide, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1)).view_as(x)
