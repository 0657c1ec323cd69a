"""What lies within pixels: an image holds means over its pixels, and what was measured varies within them.

Data simulated from an image that is k times finer, or made by a scanner (k infinite), are of more than these means. Of
a wave of frequency w (radians a pixel), the mean over a pixel keeps D(w) = sin(w / 2) / (k sin(w / (2 k))) along each
axis; a projection of flat pixels smooths the means once more, by the same. So y = A x is off by D^2 in CT, and by D in
MRI, whose transform takes samples: by a half and more at the highest frequency, and at many views by more than all
noise (``benchmarks/results/settings.md``).

In MRI that is exact for what the pixels can show. In CT it is the first term of a series, and where bins fold flat
pixels back upon each other, as at right angles, less of it is needed: of the error 0.4 stays where images are smooth,
and 0.8 of real ones, whose edges the pixels cannot show.
"""

import math

import torch
from torch import Tensor

SCANNER = math.inf
"""How many times finer than pixels is what a scanner measures."""


def kept_by_means(size: int, fine_factor: float) -> Tensor:
    """D of the frequencies of an axis of ``size`` pixels, the lowest in the middle, (size,) in float64; 0.63 to 1."""
    half = torch.pi * (torch.arange(size, dtype=torch.float64) - size // 2) / size
    wave = torch.sinc(half / torch.pi)
    return wave if math.isinf(fine_factor) else wave / torch.sinc(half / torch.pi / fine_factor)


def curvature_within(fine_factor: float) -> float:
    """c of 1 / D(w)^2 = 1 + c w^2 + ...: how much ``sharper`` has to make the means."""
    return (1 - 1 / fine_factor**2) / 12


def sharper(x: Tensor, c: float) -> Tensor:
    """(1 + c w^2) x along each axis of images (..., height, width), by differences of neighbours; its own adjoint.

    Constant images stay as they are, up to their borders.
    """
    for axis in (-2, -1):
        n = x.shape[axis] - 1
        step = c * (x.narrow(axis, 1, n) - x.narrow(axis, 0, n))
        pad = torch.zeros_like(x.narrow(axis, 0, 1))
        x = x + torch.cat([pad, step], axis) - torch.cat([step, pad], axis)
    return x
