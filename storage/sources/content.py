"""What the values of a volume say that they are: labels beside images, and CT that is not in Hounsfield units.

Both are judged by values of many voxels, never by one extreme, and both say how to take the file all the same.
"""

import re
from pathlib import PurePosixPath

import numpy as np

N_SAMPLE = 1 << 18
"""Voxels that are looked at first."""

MAX_LABELS = 1000
"""A parcellation of the brain has some hundred labels."""

LABEL_SPACING = 32
"""Labels are counted: their largest number is at most this many times the number of labels."""

MIN_EQUAL, MIN_EQUAL_NAMED = 0.8, 0.5
"""Of neighbours within labels are equal at least this many; noise makes neighbours of an image differ. Less will do
where the name says so too: labels that were interpolated."""

IMAGE_INTENTS = ("none", "dimensionless")

LABEL_WORDS = re.compile(
    r"([a-z]*(segs?|segmentations?|masks?|labels?(map|tr|ts)?|rois?)|lbl|aparc|wmparc|parc|parcellation"
    r"|annot(ation)?s?|atlas|lesions?|gt|groundtruth|truth|manual|contours?|probs?|probabilit(y|ies)|pve|tpm|gm|wm|csf"
    r"|tissues?)"
)
"""Words in names of files and folders that hold labels or maps beside images."""

PARTS = re.compile(r"_part-(phase|real|imag)(_|$)|_(ph|phase[12]?|phasediff|real|imaginary)$")
"""How the names of volumes end, or are marked, that hold a part of complex images and no magnitude."""

MIN_NEGATIVE = 0.1
"""Such a part is negative and large in at least so many voxels: phases are anything from -pi to pi in air."""

HU_AIR = (-1200.0, -600.0)
"""Air and lung."""

HU_SPAN, HU_DENSE = 20.0, 700.0
"""Noise alone spans more than the first; half of a body is never as dense as the second."""

HU_TISSUE = -200.0
"""Fat and all that is denser."""

MAX_AT_BOTTOM = 0.1
"""Voxels that share the lowest value: more of them are a window's end, where that is no air."""


def foreign_reason(file: str, intent: str, values: np.ndarray) -> str | None:
    """Why a volume is a label map, a mask or a map of probabilities and no image; None for an image.

    The intent of its header decides, then its values: labels are few, whole, not negative, and their neighbours are
    equal. Where a word of the name says so too (seg, mask, label, ...), less will do. A name alone decides nothing:
    a skull-stripped head may be called brainmask.
    """
    if intent not in IMAGE_INTENTS:
        return f"no image: its header says that its values are of the kind {intent!r} (intent_code); {_ANYWAY}"
    word = _label_word(file)
    kind = _kind(values, is_named=word is not None)
    named = f", and {word!r} in its name" if word else ""
    return f"no image but {kind}{named}; {_ANYWAY}" if kind else None


_ANYWAY = "to take it all the same, set source.takes_labels=true; source.pattern chooses files by their names"


def complex_part_reason(file: str, values: np.ndarray) -> str | None:
    """Why an MRI volume is a phase, or a part of complex images, and no magnitude; None for a magnitude.

    Its name says so, as BIDS and converters from DICOM mark it, and its values are signed.
    """
    part = PARTS.search(_stem(PurePosixPath(file).name))
    if part is None or _share(_sample(values), -np.inf, -0.2 * float(values.max())) <= MIN_NEGATIVE:
        return None
    return f"no magnitude but a part of complex images ({part[0].strip('_')!r} in its name, signed values); {_ANYWAY}"


def _stem(name: str) -> str:
    return re.sub(r"\.nii(\.gz)?$", "", name.lower())


def _label_word(file: str) -> str | None:
    """The word of a file's name, or of a folder's, by which people mark labels."""
    for part in reversed(PurePosixPath(file).parts):
        if found := next(filter(LABEL_WORDS.fullmatch, re.split(r"[^a-z]+", _stem(part))), None):
            return found
    return None


def _kind(values: np.ndarray, *, is_named: bool) -> str | None:
    low, high = float(values.min()), float(values.max())
    if low < 0 or low == high:
        return None  # An image; one value alone is an empty one, which is said elsewhere.
    distinct = _distinct(values)
    n, is_whole = len(distinct), bool((distinct == np.rint(distinct)).all())
    if n == 2:
        return f"a mask (its values are {low:g} and {high:g})"
    if is_named and high <= 1 and (values > 0.95).sum() > 0.1 * (values > 0.05).sum():
        return "a map of values from 0 to 1"
    is_counted = is_whole and n <= MAX_LABELS and high < LABEL_SPACING * n
    if not (is_named or is_counted) or _share_equal(values) < (MIN_EQUAL_NAMED if is_named else MIN_EQUAL):
        return None
    return f"a label map ({n} numbers from {low:g} to {high:g}, neighbours are equal)"


def _distinct(values: np.ndarray) -> np.ndarray:
    """Which values there are, as far as a sample shows; of a small object in emptiness all."""
    found = np.unique(_sample(values))
    return found if len(found) > 1 else np.unique(np.append(values[values != found[0]], found))


def _sample(values: np.ndarray) -> np.ndarray:
    # An odd step does not stay in the same columns of images of even width.
    step = values.size // N_SAMPLE
    return values.ravel()[:: step + 1 - step % 2] if step > 1 else values.ravel()


def _share_equal(values: np.ndarray) -> float:
    """Of the neighbours along the last axis that are both above the minimum, the share that are equal."""
    left, right = values[..., :-1], values[..., 1:]
    low = values.min()
    inside = (left > low) & (right > low)
    return float((left[inside] == right[inside]).mean()) if inside.any() else 1.0


def not_hounsfield_reason(values: np.ndarray) -> str | None:
    """Why the values of a CT volume do not look like Hounsfield units; None where they may be.

    Air (-1000 HU) or other negative values settle it: a volume without air can be cut out of soft tissue, but noise,
    fat and water leave some voxels below 0. Without them, 0 is a floor: of values that were shifted, or of a picture's.
    """
    values = _without_padding(_sample(values))
    bottom, low, middle, high = (float(x) for x in np.percentile(values, (0, 0.1, 50, 99.9)))
    if high - low < HU_SPAN:
        return _not_hounsfield(f"nearly all lie between {low:g} and {high:g}, which noise alone exceeds in HU")
    if middle > HU_DENSE:
        return _not_hounsfield(f"half of them are above {middle:g}, as dense bone (HU + 1024, or inverted?)")
    if high < HU_TISSUE:
        return _not_hounsfield(f"there is no tissue, hardly one is above {high:g}")
    if _share(values, HU_AIR[0], HU_AIR[1]) > 1e-3:
        return None
    if _share(values, -np.inf, 1.5 * HU_AIR[0]) > 1e-2:
        return _not_hounsfield(f"they reach down to {low:g}, but none is air at -1000 HU")
    if _share(values, -np.inf, -0.02 * high) > 1e-3:
        at_bottom = float((values == bottom).mean())
        cut = f"air was cut off at {bottom:g}, the value of {at_bottom:.0%} of the voxels"
        return _not_hounsfield(cut) if at_bottom > MAX_AT_BOTTOM else None
    if _share(values, -np.inf, 0.1 * high) < 1e-2:
        return None
    likely = "values of HU + 1024?" if high > 1000 else "grey values of a picture?"
    return _not_hounsfield(f"there is no air at -1000 HU and nothing below 0, their median is {middle:g} ({likely})")


def _share(values: np.ndarray, above: float, below: float) -> float:
    return float(((values > above) & (values < below)).mean())


def _not_hounsfield(found: str) -> str:
    return f"its values are not in Hounsfield units: {found}"


def _without_padding(values: np.ndarray) -> np.ndarray:
    """The values without a constant far below air, which fills what was not seen."""
    bottom = values.min()
    rest = values[values > bottom]
    return rest if rest.size > 0 and bottom < HU_AIR[0] and rest.min() - bottom > 200 else values
