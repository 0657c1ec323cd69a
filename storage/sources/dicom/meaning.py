"""What kind of an image a file holds, by what its tags say: a slice of HU or of magnitudes, or something else.

Scouts, phases, maps, projections and screen saves come in the same storage classes as slices and often in the same
folder or series. ImageType (DICOM PS3.3, C.7.6.1.1.2, C.8.2.1.1.1 and C.8.3.1.1.1) and what vendors write into it,
RescaleType (C.11.1.1.2), ComplexImageComponent (C.8.13.3.1.1) and the vendors' own tags tell them apart.
"""

import re

from pydicom.dataset import Dataset

from scoreinv.modality import MODALITIES, Modality
from storage.errors import SourceError
from storage.sources.dicom.content import private_number, word, words

_LOCALIZERS = "LOCALIZER LOCALISER SCOUT TOPOGRAM SURVIEW SURVEY SCANOGRAM"
_LOCALIZER_SERIES = re.compile(r"locali[sz]er|scout|topogram|surview|scanogram|\bsurvey\b|\b3[- ]?pl(ane)? loc", re.I)
_SAVED = "SCREENSAVE SCREENSHOT SCREENCAPTURE SCREEN PROT DOSE DOSEREPORT DOSEINFO REPORT GRAPH PLOT"
_PROJECTIONS = """MIP MINIP MNIP MAXIP MPRMIP THICKMIP THINMIP PROJECTION PROJECTIONIMAGE VRT VR SSD VOLREND
    VOLUMERENDERING RENDERED RENDERING CPR CURVED COLLAPSE"""
_MAPS = """ADC EADC EXPADC FA CFA COLFA FACOLOR TENSOR CBF CBV RCBF RCBV RELCBF RELCBV MTT RMTT RELMTT TTP RTTP TMAX PBV
    PBP KTRANS KEP IAUC AUC PEI PERMEABILITY TTEST ZSCORE GLM QSM MTR FATFRACTION PDFF R2STAR VELOCITY STDDEV"""
_LABELS = "MASK LABEL LABELS SEG SEGMENTATION"
_DIFFERENCES = "SUB SUBTRACT SUBTRACTION SUBTRACTED DIFFERENCE DSA"
_MATERIALS = """ZEFF EFFATOMICNUM RHOZ ELECTRONDENSITY IODINE CALCIUM URICACID MATSPECIFIC MATFRACTIONAL MATMODIFIED
    MATVALUEBASED MATERIALQUANTIF"""

_KINDS = {
    "a localizer, not a cross-section": frozenset(_LOCALIZERS.split()),
    "a screen save or report, not a slice": frozenset(_SAVED.split()),
    "a mosaic of slices: convert it to single slices first": frozenset({"MOSAIC", "MONTAGE"}),
    "a projection or rendering, not a slice": frozenset(_PROJECTIONS.split()),
    "a map that was computed, not an image": frozenset(_MAPS.split()),
    "a difference of images, not an image": frozenset(_DIFFERENCES.split()),
    "a map of labels, not an image": frozenset(_LABELS.split()),
}
_DESCRIBED = [kind for kind in _KINDS if "projection" in kind or "computed" in kind or "difference" in kind]
"""Kinds whose words mean the same in a description; "low dose", "screening" and "mask" there are no images' kinds."""
_KINDS_CT = {
    "a localizer, not a cross-section": frozenset({"TOP"}),  # As in "CT_SOM5 TOP".
    "a map of a material, not Hounsfield units": frozenset(_MATERIALS.split()),
}
_PHASE, _REAL, _IMAGINARY = ("a phase image", "the real part of an image", "the imaginary part of an image")
_KINDS_MR = {
    _PHASE: frozenset({"P", "PHASE", "PCA", "PHASEIMAGE"}),
    _REAL: frozenset({"R", "REAL"}),
    _IMAGINARY: frozenset({"I", "IMAGINARY", "IMAG"}),
}
_COMPONENTS = {"PHASE": _PHASE, "REAL": _REAL, "IMAGINARY": _IMAGINARY, "MIXED": "magnitude and phase in one"}
_PARTS = {"P": _PHASE, "R": _REAL, "I": _IMAGINARY}
_GE_PARTS = {1.0: _PHASE, 2.0: _REAL, 3.0: _IMAGINARY}
_RESCALE_TYPES: dict[Modality, str] = {
    "ct": r"|HU|H|US|UNSPECIFIED|HOUN\w*( UNITS?)?",
    "mri": r"|US|UNSPECIFIED|NORMALI[SZ]ED|NONE|SIGNAL( INTENSITY)?|ARBITRARY( UNITS?)?|A\.?U\.?",
}
_REFORMATS = frozenset({"MPR", "REFORMATTED", "CSAMPR", "RESAMPLED", "MPRTHICK", "MPRTHIN"})


def refuse_other_kinds(tags: Dataset, modality: Modality) -> None:
    """Lets slices of Hounsfield units (CT) or of magnitudes (MRI) pass.

    Raises:
        SourceError: with what the image is instead, and the tag that says so.
    """
    _refuse_by_image_type(tags, modality)
    _refuse_by_description(tags)
    _refuse_by_units(tags, modality)
    if word(tags, "BurnedInAnnotation").upper() == "YES":
        raise SourceError("there is writing in its pixels (BurnedInAnnotation is YES): a screen save?")
    if modality == "mri":
        _refuse_other_components(tags)


def is_reformat(tags: Dataset) -> bool:
    """Whether the slice was cut out of other slices, in whatever plane."""
    return not _REFORMATS.isdisjoint(_squeezed(words(tags, "ImageType")))


def _refuse_by_image_type(tags: Dataset, modality: Modality) -> None:
    values = words(tags, "ImageType")
    stated = "ImageType is " + "\\".join(values)
    found = _squeezed(values)
    kinds = [*_KINDS.items(), *(_KINDS_CT if modality == "ct" else _KINDS_MR).items()]
    for kind, marks in kinds:
        # "In phase" and "opposed phase" are magnitudes.
        if not marks.isdisjoint(found) and not (kind == _PHASE and {"IN", "OUT", "OPP", "OPPOSED"} & found):
            raise SourceError(f"it is {kind} ({stated})")
    if modality == "mri":
        # Philips: "R_FFE", "I_SE".
        part = next((mark[0] for mark in (v.upper() for v in values[2:]) if re.match(r"[PRI]_[A-Z]+$", mark)), None)
        if part:
            raise SourceError(f"it is {_PARTS[part]} ({stated})")
    if any(mark.endswith("MAP") for mark in found):
        raise SourceError(f"it is a map that was computed, not an image ({stated})")


def _refuse_by_description(tags: Dataset) -> None:
    described = word(tags, "SeriesDescription")
    if _LOCALIZER_SERIES.search(described):
        raise SourceError("it is a localizer, not a cross-section (SeriesDescription)")
    # What was derived often says only here what it is; in "late phase" or "FA 15" of an original it means nothing.
    if not word(tags, "ImageType").upper().startswith("DERIVED"):
        return
    found = {mark.upper() for mark in re.split(r"[^A-Za-z0-9]+", described)}
    for kind in _DESCRIBED:
        if not _KINDS[kind].isdisjoint(found):
            raise SourceError(f"it is {kind} (DERIVED, and its SeriesDescription says so)")


def _refuse_by_units(tags: Dataset, modality: Modality) -> None:
    stated = word(tags, "RescaleType")
    if not re.fullmatch(_RESCALE_TYPES[modality], stated, re.IGNORECASE):
        raise SourceError(f"its RescaleType is {stated}: {MODALITIES[modality].in_files} were wanted")
    for item in tags.get("ModalityLUTSequence") or []:
        kind = word(item, "ModalityLUTType")
        if modality == "ct" and kind.upper() != "HU":
            raise SourceError(f"its ModalityLUTType is {kind}: Hounsfield units were wanted")


def _refuse_other_components(tags: Dataset) -> None:
    component = word(tags, "ComplexImageComponent").upper()
    if component in _COMPONENTS:
        raise SourceError(f"it is {_COMPONENTS[component]} (ComplexImageComponent is {component})")
    ge = private_number(tags, 0x0043, 0x2F, "GEMS_PARM_01")
    if ge is not None and ge in _GE_PARTS:
        raise SourceError(f"it is {_GE_PARTS[ge]} (GE's tag 0043,102F is {ge:g})")


def _squeezed(values: tuple[str, ...]) -> set[str]:
    """The values and their words in capitals, without what joins them: "CSA MIP" is CSAMIP, CSA and MIP."""
    found = set()
    for value in (v.upper() for v in values):
        found |= {re.sub(r"[^A-Z0-9]", "", part) for part in (value, *re.split(r"[\s/]+", value))}
    return found - {""}
