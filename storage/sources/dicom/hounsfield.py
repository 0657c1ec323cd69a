"""Whether the values of a CT volume can be Hounsfield units, whatever its tags say."""

import numpy as np

AIR_HU = -1000.0

PADDING_HU = -1500.0
"""What is below is no air: scanners fill what they did not see with -2000, -3024 or -32768."""

MIN_AIR = 1e-3
"""A volume with this part of air or lung is not judged further, unless more than half of it is dense."""


def not_hounsfield_reason(values: np.ndarray) -> str | None:
    """Why these values, of slices all over a volume, surely are not Hounsfield units; None where they may be.

    Air at -1000 HU settles it. Without air, a volume can be cut out of a body, but then fat, water and noise leave
    some voxels below 0, they span more than 100 HU, and not half of them is as dense as bone.
    """
    values = values[values >= PADDING_HU]
    if values.size == 0:
        return f"none of its values is above {PADDING_HU:g}"
    low, middle, high = (float(x) for x in np.percentile(values, (0.1, 50, 99.9)))
    if high < -300:
        return f"there is no tissue: hardly a value is above {high:g}"
    if middle > 700:
        return f"half of its values are above {middle:g}: stored without the offset of -1024, or inverted?"
    if (values < -500).mean() > MIN_AIR:
        return None
    if (values < 0).mean() < MIN_AIR:
        return f"there is no air at -1000 and nothing below 0, they lie between {low:g} and {high:g}"
    if high - low < 100:
        return f"there is no air at -1000, and nearly all values lie between {low:g} and {high:g}"
    return None
