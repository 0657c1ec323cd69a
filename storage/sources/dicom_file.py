"""One DICOM file: its checked header and its physical values. Every file is treated as untrusted input."""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.misc import is_dicom
from pydicom.multival import MultiValue
from pydicom.pixels import get_decoder
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from scoreinv.contract import Modality
from storage.errors import SourceError
from storage.sources.files import damage_explained

STORAGE_CLASSES: dict[Modality, str] = {"ct": "1.2.840.10008.5.1.4.1.1.2", "mri": "1.2.840.10008.5.1.4.1.1.4"}
"""SOP classes of single-frame CT and MR images (DICOM PS3.4, table B.5-1)."""

MAX_FILE_BYTES = 1 << 28
MAX_PIXELS = 1 << 24
"""Of one image: 4096 x 4096. More is not a CT or MR slice, and would fill the memory before any check."""

AIR_HU = -1000.0

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_DECODER_PACKAGES = {
    "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "JPEG-LS": "pylibjpeg pylibjpeg-libjpeg",
    "RLE": "pylibjpeg pylibjpeg-rle",
    "JPEG": "pylibjpeg pylibjpeg-libjpeg",
}


class Header(NamedTuple):
    """What is needed to sort a slice into its series, and what is kept of the rest."""

    file: str
    series_uid: str
    study_uid: str
    sop_uid: str
    subject_id: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    orientation: tuple[float, ...]
    position_mm: float
    position_from: str
    order: tuple[int, int]
    geometry: dict[str, Any]

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all slices of a volume have in common."""
        return self.shape, tuple(round(c, 3) for c in self.orientation), self.position_from


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is worth a try: it has DICOM's preamble, or a name that promises DICOM."""
    return path.name.upper() != "DICOMDIR" and (_has_dicom_name(path) or bool(is_dicom(path)))


def read_header(path: Path, file: str, modality: Modality) -> Header:
    """The header of a CT or MR slice.

    Raises:
        SourceError: if it is not one, with the reason.
    """
    with damage_explained():
        return _header(_read(path, stop_before_pixels=True), file, modality)


def read_values(path: Path, modality: Modality) -> np.ndarray:
    """The physical values of a slice, (rows, columns) float32: HU for CT, arbitrary units for MR.

    Values are slope * stored + intercept. Pixels with the padding value of a CT (outside the field of
    view) become air.

    Raises:
        SourceError: if they cannot be decoded, with the reason.
    """
    with damage_explained():
        return _values(_read(path, stop_before_pixels=False), modality)


def _header(dataset: Dataset, file: str, modality: Modality) -> Header:
    _check_kind(dataset, modality)
    _check_size(dataset)
    _check_pixels_can_be_decoded(dataset)
    orientation = _numbers(dataset, "ImageOrientationPatient", 6)
    position, position_from = _position(dataset, orientation)
    return Header(
        file=file,
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=str(dataset.get("StudyInstanceUID", "")),
        sop_uid=_text(dataset, "SOPInstanceUID"),
        subject_id=str(dataset.get("PatientID") or "").strip(),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        spacing_mm=_spacing(dataset),
        orientation=orientation,
        position_mm=position,
        position_from=position_from,
        order=(_integer(dataset, "AcquisitionNumber"), _integer(dataset, "InstanceNumber")),
        geometry=_kept(dataset),
    )


def _values(dataset: Dataset, modality: Modality) -> np.ndarray:
    _check_size(dataset)
    _check_pixel_bytes(dataset)
    stored = _decoded(dataset)
    slope, intercept = _rescale(dataset, modality)
    values = (stored.astype(np.float64) * slope + intercept).astype(np.float32)
    if modality == "ct":
        values[_padding(dataset, stored, slope, intercept)] = AIR_HU
    return values


def _has_dicom_name(path: Path) -> bool:
    return path.suffix.lower() in _DICOM_SUFFIXES


def _read(path: Path, *, stop_before_pixels: bool) -> Dataset:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise SourceError(f"the file has {size} bytes, more than the {MAX_FILE_BYTES} that a slice can have")
    _refuse_inflating_file(path)
    # A file of this name without a preamble may still be DICOM; anything else needs the preamble.
    return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, force=_has_dicom_name(path))


def _refuse_inflating_file(path: Path) -> None:
    if not is_dicom(path):
        return
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    # Preamble (128), "DICM" (4), the group length element (12), then as many bytes as that element says.
    start = 144 + int(meta.FileMetaInformationGroupLength)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    if len(inflater.decompress(path.read_bytes()[start:], MAX_FILE_BYTES + 1)) > MAX_FILE_BYTES:
        raise SourceError(f"the deflated file unpacks to more than {MAX_FILE_BYTES} bytes")


def _check_kind(dataset: Dataset, modality: Modality) -> None:
    sop_class = dataset.get("SOPClassUID")
    if sop_class is None or len(dataset) == 0:
        raise SourceError("not an image: there is no SOPClassUID (unreadable, or not DICOM)")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        frames, name = int(dataset.NumberOfFrames), UID(sop_class).name
        raise SourceError(f"multi-frame ({frames} frames, {name}): convert it to single-frame files first")
    if sop_class != STORAGE_CLASSES[modality]:
        wanted = UID(STORAGE_CLASSES[modality]).name
        raise SourceError(f"it is a {UID(sop_class).name}, this source takes {wanted} (modality={modality!r})")


def _check_size(dataset: Dataset) -> None:
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if rows < 1 or columns < 1:
        raise SourceError("not an image: Rows or Columns are missing")
    if rows * columns > MAX_PIXELS:
        raise SourceError(f"{rows} x {columns} pixels are more than the {MAX_PIXELS} a slice can have")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise SourceError(f"a colour image ({dataset.SamplesPerPixel} samples per pixel), grey values were wanted")


def _check_pixels_can_be_decoded(dataset: Dataset) -> None:
    syntax = _transfer_syntax(dataset)
    if not syntax.is_compressed or syntax == DeflatedExplicitVRLittleEndian:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise SourceError(f"compressed as {syntax.name}, which cannot be decoded: convert the file") from error
    if not available:
        packages = next((p for name, p in _DECODER_PACKAGES.items() if name in syntax.name), "gdcm")
        raise SourceError(f"compressed as {syntax.name} and no decoder is installed: pip install {packages}")


def _transfer_syntax(dataset: Dataset) -> UID:
    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    return UID(syntax or "1.2.840.10008.1.2")


def _check_pixel_bytes(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        raise SourceError("there is no PixelData: the file was truncated, or holds a header only")
    if _transfer_syntax(dataset).is_encapsulated:
        return
    expected = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("BitsAllocated") or 16) // 8
    if len(dataset.PixelData) < expected:
        raise SourceError(f"truncated: {len(dataset.PixelData)} bytes of pixel data, {expected} were expected")


def _decoded(dataset: Dataset) -> np.ndarray:
    stored = np.asarray(dataset.pixel_array)
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise SourceError(f"the pixels decode to shape {stored.shape}, not {(dataset.Rows, dataset.Columns)}")
    return stored


def _rescale(dataset: Dataset, modality: Modality) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    if modality == "ct" and (slope is None or intercept is None):
        raise SourceError("no RescaleSlope or RescaleIntercept: the values cannot be turned into Hounsfield units")
    numbers = float(1 if slope is None else slope), float(0 if intercept is None else intercept)
    if not np.isfinite(numbers).all() or numbers[0] == 0:
        raise SourceError(f"RescaleSlope {slope} and RescaleIntercept {intercept} make no physical values")
    return numbers


def _padding(dataset: Dataset, stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Where the pixels are padding (DICOM PS3.3, C.7.5.1.1.2), bool."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    first, last = sorted(_as_stored(dataset, int(v)) for v in (value, dataset.get("PixelPaddingRangeLimit", value)))
    # Some files state a padding value that is also the value of water or tissue; then it cannot be believed.
    if -900 < first * slope + intercept < 3000:
        return np.zeros(stored.shape, bool)
    return np.asarray((stored >= first) & (stored <= last))


def _as_stored(dataset: Dataset, value: int) -> int:
    """A padding value as the pixels hold it: 63536 in a file of signed 16-bit pixels is -2000."""
    bits = int(dataset.BitsAllocated)
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def _position(dataset: Dataset, orientation: tuple[float, ...]) -> tuple[float, str]:
    """Where the slice lies along the normal of its plane, and which tag says so."""
    corner = _numbers(dataset, "ImagePositionPatient", 3)
    if corner and orientation:
        return float(np.dot(np.cross(orientation[:3], orientation[3:]), corner)), "ImagePositionPatient"
    location = _numbers(dataset, "SliceLocation", 1)
    if location:
        return location[0], "SliceLocation"
    thickness = _numbers(dataset, "SliceThickness", 1)
    return _integer(dataset, "InstanceNumber") * (thickness[0] if thickness else 1.0), "InstanceNumber"


def _spacing(dataset: Dataset) -> tuple[float, float]:
    spacing = _numbers(dataset, "PixelSpacing", 2)
    if not spacing or min(spacing) <= 0:
        raise SourceError(f"PixelSpacing is {dataset.get('PixelSpacing')!r}: the size of a pixel is not known")
    return spacing[0], spacing[1]


def _kept(dataset: Dataset) -> dict[str, Any]:
    """Physics only: nothing here names a person, a place or a day."""
    numbers = ("RescaleSlope", "RescaleIntercept", "SliceThickness", "KVP", "MagneticFieldStrength")
    words = ("Modality", "Manufacturer", "ConvolutionKernel", "ScanningSequence", "PatientPosition", "RescaleType")
    kept: dict[str, Any] = {name: value[0] for name in numbers if (value := _numbers(dataset, name, 1))}
    return {**kept, **{name: str(dataset[name].value) for name in words if dataset.get(name)}}


def _numbers(dataset: Dataset, name: str, count: int) -> tuple[float, ...]:
    """The values of a tag, or nothing if there are not just as many finite numbers."""
    value = dataset.get(name)
    items = value if isinstance(value, MultiValue) else [value]
    try:
        numbers = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return ()
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else ()


def _integer(dataset: Dataset, name: str) -> int:
    numbers = _numbers(dataset, name, 1)
    return int(numbers[0]) if numbers else 0


def _text(dataset: Dataset, name: str) -> str:
    value = str(dataset.get(name) or "").strip()
    if not value:
        raise SourceError(f"there is no {name}: the slice cannot be told from others")
    return value
