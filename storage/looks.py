"""What the images of a data set look like, so that an empty one is never made in silence.

A volume is fine if one of its slices shows something: slices of air are part of volumes.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from scoreinv.contract import ImageContract
from scoreinv.spec import Json

BLACK, FLAT, SATURATED = 0.999, 1e-4, 0.9
"""Shares of black pixels and of values above the range, and a deviation: at or beyond these a slice shows nothing."""

MARGIN = 0.01
"""Of the range: nearer than this to its lower end is black, further than this beyond its upper end is above it."""


class Look(NamedTuple):
    """One slice: what came in, and what its image shows.

    Attributes:
        lowest: of the physical values.
        highest: of the physical values.
        above: the share of the values that lie above the range, of those that are not black.
        black: the share of black pixels of the image.
        std: the deviation of the image's pixels.
        extent_mm: rows and columns of the slice times their spacing.
    """

    lowest: float
    highest: float
    above: float
    black: float
    std: float
    extent_mm: tuple[float, float]

    def to_json(self) -> list[Json]:
        """As shards keep it."""
        return [float(f"{x:.6g}") for x in (*self[:5], *self.extent_mm)]


def look_of(values: np.ndarray, spacing_mm: tuple[float, float], image: np.ndarray, contract: ImageContract) -> Look:
    """How a slice of physical values became an image (size, size) in [0, 1]."""
    margin = MARGIN * (contract.high - contract.low)
    seen = values > contract.low + margin
    above = values > contract.high + margin
    rows, columns = values.shape
    return Look(
        lowest=float(values.min()),
        highest=float(values.max()),
        above=float(above.sum() / max(int(seen.sum()), 1)),
        black=float((image < MARGIN).mean()),
        std=float(image.std()),
        extent_mm=(rows * spacing_mm[0], columns * spacing_mm[1]),
    )


def read_looks(found: Iterable[Sequence[float]]) -> list[Look]:
    """Looks as ``Look.to_json`` writes them."""
    return [Look(a, b, c, d, e, (rows, columns)) for a, b, c, d, e, rows, columns in found]


def nothing_seen(looks: Sequence[Look], contract: ImageContract) -> str | None:
    """Why a volume of these slices shows nothing, and what does not fit; None if one of its slices shows something."""
    if not all(look.black >= BLACK or look.std < FLAT or look.above >= SATURATED for look in looks):
        return None
    if all(look.black >= BLACK for look in looks):
        what = "nearly all black"
    else:
        what = "saturated" if any(look.above >= SATURATED for look in looks) else "constant"
    rows, columns = looks[0].extent_mm
    field = contract.size * contract.pixel_mm
    return (
        f"it comes out {what} (its values lie between {min(look.lowest for look in looks):g} and "
        f"{max(look.highest for look in looks):g}, the image has image.low={contract.low:g} and "
        f"image.high={contract.high:g}; its slices measure {rows:g} x {columns:g} mm, the image {field:g} x {field:g} "
        f"mm, by image.size={contract.size} and image.pixel_mm={contract.pixel_mm:g})"
    )
