"""Images as 16-bit integers: half the memory of float32, for values that lie on a lattice.

    image = (values + offset) / scale

Hounsfield units of a scanner's own grid are whole numbers, so images of them that were not resampled have a scale of
high - low; images that were packed for a journey have the scale of the packing. Most others are no integers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

SCALES = (*range(1, 4097), *(2**n - one for n in range(13, 17) for one in (0, 1)))
"""Those that are looked for: what Hounsfield units take, and what 13 to 16 bits can tell apart."""

N_LOOKED_AT = 65_536
"""Values in which a scale is looked for; whether it fits all is found out when they are turned."""

N_AT_ONCE = 64
"""Images that are turned together, so that turning takes little memory."""


class Integers(NamedTuple):
    """Images (n, ...) as int16 ``values``."""

    values: Tensor
    offset: int
    scale: float

    def images(self, places: Tensor) -> Tensor:
        """The images in some places, float32, where the values are."""
        return (self.values[places].float() + self.offset) / self.scale

    def to(self, device: torch.device) -> "Integers":
        """The same on a device."""
        return self._replace(values=self.values.to(device))


def as_integers(images: Tensor) -> Integers | None:
    """Images (n, ...) in [0, 1], float32, as integers that give every value back to the bit; None if there are none."""
    scale = _scale(images)
    if scale == 0:
        return None
    offset = 2**15 if scale >= 2**15 else 0
    values = torch.empty(images.shape, dtype=torch.int16)
    for part, target in zip(torch.split(images, N_AT_ONCE), torch.split(values, N_AT_ONCE), strict=True):
        whole = (part * scale).round()
        if not torch.equal(whole / scale, part) or float(part.min()) < 0 or float(part.max()) > 1:
            return None
        # Of 16 bits the largest scale has one value too many.
        if float(whole.max()) - offset >= 2**15:
            return None
        target.copy_(whole - offset)
    return Integers(values, offset, scale)


def _scale(images: Tensor) -> float:
    """The first scale that fits a part of the values; 0 if none does."""
    looked_at = images.flatten()[:: max(1, images.numel() // N_LOOKED_AT)].unique()  # type: ignore[no-untyped-call]
    looked_at = looked_at[(looked_at > 0) & (looked_at < 1)]
    fitting = (float(one) for one in SCALES if torch.equal((looked_at * one).round() / one, looked_at))
    return next(fitting, 0.0)
