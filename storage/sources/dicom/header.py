"""The checked header of one DICOM file: what it takes to tell whose slice it is, of which volume, and where it lies."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from scoreinv.modality import MODALITIES, Modality
from scoreinv.spec import Json
from storage.errors import SourceError
from storage.sources.dicom.content import number, numbers, private_number, read_tags, transfer_syntax, word
from storage.sources.dicom.meaning import is_reformat, refuse_other_kinds
from storage.sources.files import damage_explained

MAX_PIXELS = 1 << 24
"""Of one image: 4096 x 4096. More is not a CT or MR slice, and would fill the memory before any check."""

PIXEL_MM = (1e-3, 50.0)
"""Sides of pixels, from scanners for mice to the coarsest maps."""

MAX_FIELD_MM = 3000.0
"""No scanner sees a slice as wide as this."""

_REPETITION = (
    "AcquisitionNumber",
    "TriggerTime",
    "NominalPercentageOfCardiacPhase",
    "KVP",
    "ConvolutionKernel",
    "SliceThickness",
    "ReconstructionDiameter",
    "ContrastBolusAgent",
    "DiffusionGradientOrientation",
    "ImageType",
    "SeriesDescription",
    "SeriesNumber",
    "FrameOfReferenceUID",
    "AcquisitionTime",
)
_DECODER_PACKAGES = {
    "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "JPEG-LS": "pylibjpeg pylibjpeg-libjpeg",
    "RLE": "pylibjpeg pylibjpeg-rle",
    "JPEG": "pylibjpeg pylibjpeg-libjpeg",
}


class PersonTags(NamedTuple):
    """What says whose image it is; never kept."""

    patient_id: str
    sex: str
    birth_date: str
    name_words: frozenset[str]

    def coded(self, code: Callable[[str], str]) -> "PersonTags":
        """The same with codes for everything but the PatientID; they can be compared as what they stand for."""
        return self._replace(
            sex=self.sex and code(self.sex),
            birth_date=self.birth_date and code(self.birth_date),
            name_words=frozenset(code(word) for word in self.name_words),
        )


class Header(NamedTuple):
    """What is needed to sort a slice into its volume, and what is kept of the rest."""

    file: str
    person: PersonTags
    subject_id: str
    study_uid: str
    series_uid: str
    sop_uid: str
    description: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    """Directions of the rows and of the columns; empty where they are not known."""
    corner_mm: tuple[float, ...]
    location_mm: float
    """Along the normal, where there is no corner."""
    position_from: str
    order: tuple[int, int]
    contrast: dict[str, float | str]
    """Tags that all slices of one volume share, those that there are."""
    repetition: dict[str, str]
    """Tags that may differ within a volume, but tell repetitions of a position apart."""
    is_reformat: bool
    geometry: dict[str, Any]


def header_to_json(header: Header) -> dict[str, Json]:
    """As a catalogue keeps it."""
    person = header.person._asdict() | {"name_words": sorted(header.person.name_words)}
    return header._asdict() | {"person": person}


def header_from_json(kept: Any) -> Header:
    """A header as a catalogue kept it."""
    person = PersonTags(**{**kept["person"], "name_words": frozenset(kept["person"]["name_words"])})
    lists = {name: tuple(value) for name, value in kept.items() if isinstance(value, list)}
    return Header(**{**kept, **lists, "person": person})


def read_header(path: Path, file: str, modality: Modality) -> Header:
    """The header of a CT or MR slice.

    Raises:
        SourceError: if it is not one, with the reason.
    """
    with damage_explained():
        tags = read_tags(path, stop_before_pixels=True)
        _refuse_other_objects(tags, modality)
        check_size(tags)
        _check_pixels_can_be_decoded(tags)
        refuse_other_kinds(tags, modality)
        return _header(tags, file, modality)


def check_size(tags: Dataset) -> None:
    """Refuses what has more pixels, or more values per pixel, than a slice can have, before anything is allocated.

    Raises:
        SourceError: with the numbers.
    """
    rows, columns = int(tags.get("Rows") or 0), int(tags.get("Columns") or 0)
    if rows < 1 or columns < 1:
        raise SourceError("not an image: Rows or Columns are missing")
    if rows * columns > MAX_PIXELS:
        raise SourceError(f"{rows} x {columns} pixels are more than the {MAX_PIXELS} a slice can have")
    if int(tags.get("SamplesPerPixel") or 1) != 1:
        raise SourceError(f"a colour image ({tags.SamplesPerPixel} samples per pixel), grey values were wanted")
    colours = word(tags, "PhotometricInterpretation")
    if colours and not colours.startswith("MONOCHROME"):
        raise SourceError(f"a colour image (PhotometricInterpretation is {colours}), grey values were wanted")


def _refuse_other_objects(tags: Dataset, modality: Modality) -> None:
    sop_class = tags.get("SOPClassUID")
    if sop_class is None or len(tags) == 0:
        raise SourceError("not an image: there is no SOPClassUID (unreadable, or not DICOM)")
    if int(tags.get("NumberOfFrames") or 1) > 1:
        frames, name = int(tags.NumberOfFrames), UID(sop_class).name
        raise SourceError(f"multi-frame ({frames} frames, {name}): convert it to single-frame files first")
    traits = MODALITIES[modality]
    if sop_class != traits.sop_class:
        wanted = UID(traits.sop_class).name
        raise SourceError(f"it is a {UID(sop_class).name}, this source takes {wanted} (modality={modality!r})")
    stated = word(tags, "Modality")
    if stated and stated != traits.dicom_name:
        raise SourceError(f"its Modality is {stated!r}, {traits.dicom_name!r} was wanted (modality={modality!r})")


def _check_pixels_can_be_decoded(tags: Dataset) -> None:
    syntax = transfer_syntax(tags)
    if not syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise SourceError(f"compressed as {syntax.name}, which cannot be decoded: convert the file") from error
    if not available:
        packages = next((p for name, p in _DECODER_PACKAGES.items() if name in syntax.name), "gdcm")
        raise SourceError(f"compressed as {syntax.name} and no decoder is installed: pip install {packages}")


def _header(tags: Dataset, file: str, modality: Modality) -> Header:
    orientation = _orientation(tags)
    corner = numbers(tags, "ImagePositionPatient", 3)
    location, position_from = _location(tags, bool(orientation and corner))
    return Header(
        file=file,
        person=_person(tags),
        subject_id="",
        study_uid=word(tags, "StudyInstanceUID"),
        series_uid=_wanted(tags, "SeriesInstanceUID"),
        sop_uid=_wanted(tags, "SOPInstanceUID"),
        description=word(tags, "SeriesDescription"),
        shape=(int(tags.Rows), int(tags.Columns)),
        spacing_mm=_spacing(tags),
        orientation=orientation,
        corner_mm=corner,
        location_mm=location,
        position_from=position_from,
        order=(_integer(tags, "AcquisitionNumber"), _integer(tags, "InstanceNumber")),
        contrast=_contrast(tags, modality),
        repetition={name: word(tags, name) for name in _REPETITION},
        is_reformat=is_reformat(tags),
        geometry=_kept(tags),
    )


def _person(tags: Dataset) -> PersonTags:
    patient_id, name = word(tags, "PatientID"), word(tags, "PatientName")
    # A name that only repeats the PatientID says nothing new.
    parts = set(re.split(r"[\W_]+", name.casefold())) - set(re.split(r"[\W_]+", patient_id.casefold()))
    return PersonTags(
        patient_id=patient_id,
        sex=word(tags, "PatientSex").upper(),
        birth_date=word(tags, "PatientBirthDate"),
        name_words=frozenset(part for part in parts if len(part) > 1),
    )


def _orientation(tags: Dataset) -> tuple[float, ...]:
    """Two perpendicular directions of length 1, or nothing."""
    found = numbers(tags, "ImageOrientationPatient", 6)
    if not found:
        return ()
    row, column = np.array(found[:3]), np.array(found[3:])
    lengths = np.linalg.norm([row, column], axis=1)
    is_sound = bool(np.abs(lengths - 1).max() < 0.01 and abs(float(row @ column)) < 0.01)
    return found if is_sound else ()


def _location(tags: Dataset, has_corner: bool) -> tuple[float, str]:
    """Where the slice lies along the normal of its plane if no corner says so, and which tag does."""
    if has_corner:
        return 0.0, "ImagePositionPatient"
    location = number(tags, "SliceLocation")
    if location is not None:
        return location, "SliceLocation"
    return _integer(tags, "InstanceNumber") * (number(tags, "SliceThickness") or 1.0), "InstanceNumber"


def _contrast(tags: Dataset, modality: Modality) -> dict[str, float | str]:
    found: dict[str, float | str | None] = {
        "StackID": word(tags, "StackID"),
        "TemporalPositionIdentifier": number(tags, "TemporalPositionIdentifier"),
    }
    if modality == "mri":
        found |= {name: number(tags, name) for name in ("EchoNumbers", "EchoTime", "InversionTime", "FlipAngle")}
        found |= {
            "DiffusionBValue": _b_value(tags),
            # What comes after ORIGINAL\PRIMARY: water and fat, filtered and not, ...
            "ImageType": "\\".join(word(tags, "ImageType").upper().split("\\")[2:]),
            "PhotometricInterpretation": word(tags, "PhotometricInterpretation"),
        }
    return {name: value for name, value in found.items() if value not in (None, "")}  # type: ignore[misc]


def _b_value(tags: Dataset) -> float | None:
    """In s/mm^2, from the standard's tag or the vendor's (Siemens, GE, Philips)."""
    found = (
        number(tags, "DiffusionBValue"),
        private_number(tags, 0x0019, 0x0C, "SIEMENS MR HEADER"),
        private_number(tags, 0x0043, 0x39, "GEMS_PARM_01"),
        private_number(tags, 0x2001, 0x03, "Philips Imaging DD 001"),
    )
    # GE adds 1e9 as a flag.
    return next((value % 1e9 for value in found if value is not None), None)


def _spacing(tags: Dataset) -> tuple[float, float]:
    spacing, (low, high) = numbers(tags, "PixelSpacing", 2), PIXEL_MM
    if not spacing or min(spacing) <= 0:
        raise SourceError(f"PixelSpacing is {tags.get('PixelSpacing')!r}: the size of a pixel is not known")
    field = max(spacing[0] * int(tags.Rows), spacing[1] * int(tags.Columns))
    if min(spacing) < low or max(spacing) > high or field > MAX_FIELD_MM:
        raise SourceError(
            f"PixelSpacing is {spacing[0]:g} x {spacing[1]:g} mm, the slice is {field:g} mm wide: pixels of {low:g} to "
            f"{high:g} mm and slices of up to {MAX_FIELD_MM:g} mm were wanted"
        )
    return spacing[0], spacing[1]


def _kept(tags: Dataset) -> dict[str, Any]:
    """Physics only: nothing here names a person, a place or a day."""
    values = ("RescaleSlope", "RescaleIntercept", "SliceThickness", "KVP", "MagneticFieldStrength")
    texts = ("Modality", "Manufacturer", "ConvolutionKernel", "ScanningSequence", "PatientPosition", "RescaleType")
    kept: dict[str, Any] = {name: found[0] for name in values if (found := numbers(tags, name, 1))}
    return {**kept, **{name: str(tags[name].value) for name in texts if tags.get(name)}}


def _integer(tags: Dataset, name: str) -> int:
    found = numbers(tags, name, 1)
    return int(found[0]) if found else 0


def _wanted(tags: Dataset, name: str) -> str:
    value = word(tags, name)
    if not value:
        raise SourceError(f"there is no {name}: the slice cannot be told from others")
    return value
