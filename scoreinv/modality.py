"""The modalities, each as one row: what its values mean, how they are shown, what its files and its data are.

What is added here is known everywhere: to data sets, sources, priors, scores and reports. A modality also wants an
operator (``scoreinv/operators``) and tuned methods (``tasks/planning/presets.py``); nothing else asks for one by its
name, but the sources that know its files.
"""

import math
from typing import Literal, NamedTuple

Modality = Literal["ct", "mri"]


class Tissue(NamedTuple):
    """Values of a phantom: of its body, the deviation of its organs from that, and the lowest and highest of all."""

    body: float
    organ_std: float
    low: float
    high: float


class Window(NamedTuple):
    """Values that are shown from black to white, by the name that readers of such images know."""

    name: str
    low: float
    high: float


class ValueClass(NamedTuple):
    """What has values from ``low`` to below ``high``, such as lung; values between two classes are of neither.

    ``key`` names columns of scores, ``name`` is for people.
    """

    key: str
    name: str
    low: float
    high: float


class SmallStructures(NamedTuple):
    """Round structures that must not vanish: their diameter, and the least contrast to what surrounds them."""

    diameter_mm: float
    contrast: float


class Traits(NamedTuple):
    """What one modality's values are.

    Attributes:
        units: what listings of slices call the values by.
        label: the unit beside a scale of grey values; empty where values have none.
        in_words: the unit as a sentence has it.
        in_files: what a file's own values must be.
        is_relative: whether values have no unit of their own, so that a source divides each volume by a percentile.
        attenuates: whether values are the attenuation of X-rays, in thousandths of water's, above the background.
        background: the value of air, and of what nothing was seen of.
        foreground: values above are the body's.
        window: the values shown as black and white.
        tissue: of phantoms.
        sop_class: of single-frame DICOM images (PS3.4, table B.5-1).
        dicom_name: their tag Modality.
        windows: other windows that reports offer.
        classes: what errors are given for apart; of values with a unit.
        small: the structures whose contrast is scored.
        bounds: between the classes of values in which intervals are calibrated; the lowest is of what is no body.
    """

    units: str
    label: str
    in_words: str
    in_files: str
    is_relative: bool
    attenuates: bool
    background: float
    foreground: float
    window: tuple[float, float]
    tissue: Tissue
    sop_class: str
    dicom_name: str
    windows: tuple[Window, ...] = ()
    classes: tuple[ValueClass, ...] = ()
    small: SmallStructures | None = None
    bounds: tuple[float, ...] = ()


MODALITIES: dict[Modality, Traits] = {
    "ct": Traits(
        units="HU",
        label="HU",
        in_words="HU",
        in_files="Hounsfield units",
        is_relative=False,
        attenuates=True,
        background=-1000.0,
        foreground=-500.0,
        window=(-1000.0, 400.0),
        tissue=Tissue(body=40.0, organ_std=150.0, low=-1000.0, high=1500.0),
        sop_class="1.2.840.10008.5.1.4.1.1.2",
        dicom_name="CT",
        windows=(Window("lung", -1350.0, 150.0), Window("soft tissue", -160.0, 240.0), Window("bone", -500.0, 1300.0)),
        # What lies between is mostly the edge of two of them, averaged within a pixel.
        classes=(
            ValueClass("air", "air", -math.inf, -950.0),
            ValueClass("lung", "lung", -950.0, -500.0),
            ValueClass("soft", "soft tissue", -150.0, 200.0),
            ValueClass("bone", "bone", 300.0, math.inf),
        ),
        small=SmallStructures(diameter_mm=10.0, contrast=50.0),
        bounds=(-950.0, -500.0, -150.0, 200.0, 300.0),
    ),
    "mri": Traits(
        units="volume percentile",
        label="",
        in_words="times the volume's normalising percentile",
        in_files="magnitudes in arbitrary units",
        is_relative=True,
        attenuates=False,
        background=0.0,
        foreground=0.1,
        window=(0.0, 1.0),
        tissue=Tissue(body=0.5, organ_std=0.2, low=0.0, high=1.0),
        sop_class="1.2.840.10008.5.1.4.1.1.4",
        dicom_name="MR",
        small=SmallStructures(diameter_mm=6.0, contrast=0.05),
        bounds=(0.05, 0.15, 0.3, 0.5, 0.7),
    ),
}
