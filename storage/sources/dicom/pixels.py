"""The physical values of one DICOM file's pixels. Every file is treated as untrusted input."""

import struct
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut

from scoreinv.modality import Modality
from storage.errors import SourceError
from storage.sources.dicom.content import number, read_tags, transfer_syntax, word
from storage.sources.dicom.header import check_size
from storage.sources.files import damage_explained

TISSUE_HU = (-900.0, 3000.0)
"""A padding value within these is also the value of something: then it cannot be believed."""

_JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of a codestream, and of its size (ISO/IEC 15444-1, A.5.1)."""

_JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Starts of frames (ISO/IEC 10918-1, table B.1; ISO/IEC 14495-1)."""

MAX_OVERHEAD = 1 << 16
"""Bytes by which compressed pixels may be longer than twice the pixels themselves."""


def read_values(path: Path, modality: Modality) -> np.ndarray:
    """The physical values of a slice, (rows, columns) float32: HU for CT, arbitrary units for MR; padding is NaN.

    Values are slope * stored + intercept, or looked up where there is a Modality LUT. MR that is stored inverted
    (MONOCHROME1) is negated, so that air is the lowest value again; HU mean the same in either.

    Raises:
        SourceError: if they cannot be decoded, with the reason.
    """
    with damage_explained():
        tags = read_tags(path, stop_before_pixels=False)
        check_size(tags)
        _check_pixel_bytes(tags)
        stored = _stored(tags)
        values = _physical(tags, stored, modality)
        if not np.isfinite(values).all():
            raise SourceError("its values are too large for 32 bits: slope, intercept or pixels are damaged")
        is_padding = _is_padding(tags, stored)
        if is_padding.any() and _is_believed(values, is_padding, modality):
            values[is_padding] = np.nan
        return -values if modality == "mri" and word(tags, "PhotometricInterpretation") == "MONOCHROME1" else values


def _check_pixel_bytes(tags: Dataset) -> None:
    if "PixelData" not in tags:
        raise SourceError("there is no PixelData: the file was truncated, or holds a header only")
    expected = int(tags.Rows) * int(tags.Columns) * int(tags.get("BitsAllocated") or 16) // 8
    syntax = transfer_syntax(tags)
    if not syntax.is_encapsulated:
        if len(tags.PixelData) < expected:
            raise SourceError(f"truncated: {len(tags.PixelData)} bytes of pixel data, {expected} were expected")
    elif len(tags.PixelData) > 2 * expected + MAX_OVERHEAD:
        raise SourceError(f"{len(tags.PixelData)} bytes of compressed pixels are more than {expected} bytes can need")
    else:
        size = _frame_size(next(generate_frames(tags.PixelData, number_of_frames=1)))
        if size not in (None, (int(tags.Rows), int(tags.Columns))):
            raise SourceError(f"its compressed pixels are {size[0]} x {size[1]}, not {tags.Rows} x {tags.Columns}")


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that the header of a JPEG 2000, JPEG or JPEG-LS frame states; None for other frames."""
    start = frame.find(_JPEG_2000, 0, 1 << 12)
    if start >= 0:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left
    place = 2 if frame.startswith(b"\xff\xd8") else len(frame)
    while place + 9 <= len(frame):
        marker, length = frame[place + 1], int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker in _JPEG_FRAMES:
            rows, columns = struct.unpack_from(">2H", frame, place + 5)
            return rows, columns
        place += length + 2
    return None


def _stored(tags: Dataset) -> np.ndarray:
    """What the pixels hold, (rows, columns) of integers."""
    bits, high = int(tags.get("BitsStored") or 0), int(tags.get("HighBit") or 0)
    shift = 0 if transfer_syntax(tags).is_encapsulated else high + 1 - bits
    if 0 < shift <= int(tags.BitsAllocated) - bits:
        # The values stand higher than the lowest bit. pydicom takes that for granted, so it is told of more bits.
        tags.BitsStored = high + 1
        stored = _decoded(tags)
        # In a sloppy header only HighBit is wrong: small values, with something in bits that should be unused.
        is_small = int(stored.max()) < 1 << bits and int(stored.min()) >= -(1 << bits)
        if not (is_small and (stored & ((1 << shift) - 1)).any()):
            return stored >> shift
        tags.BitsStored = bits
    return _decoded(tags)


def _decoded(tags: Dataset) -> np.ndarray:
    stored = np.asarray(tags.pixel_array)
    if stored.shape != (tags.Rows, tags.Columns):
        raise SourceError(f"the pixels decode to shape {stored.shape}, not {(tags.Rows, tags.Columns)}")
    return stored


def _physical(tags: Dataset, stored: np.ndarray, modality: Modality) -> np.ndarray:
    if tags.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, tags), np.float32)
    given = word(tags, "RescaleSlope"), word(tags, "RescaleIntercept")
    if modality == "ct" and "" in given:
        raise SourceError("no RescaleSlope or RescaleIntercept: the values cannot be turned into Hounsfield units")
    slope = number(tags, "RescaleSlope") if given[0] else 1.0
    intercept = number(tags, "RescaleIntercept") if given[1] else 0.0
    if slope is None or intercept is None or slope == 0:
        raise SourceError(f"RescaleSlope {given[0]} and RescaleIntercept {given[1]} make no physical values")
    with np.errstate(over="ignore"):
        return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def _is_padding(tags: Dataset, stored: np.ndarray) -> np.ndarray:
    """Where the pixels have the value of padding, or one up to the limit (DICOM PS3.3, C.7.5.1.1.2); bool."""
    value = number(tags, "PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    limit = number(tags, "PixelPaddingRangeLimit")
    first, last = sorted(_as_stored(tags, int(v)) for v in (value, value if limit is None else limit))
    return np.asarray((stored >= first) & (stored <= last))


def _as_stored(tags: Dataset, value: int) -> int:
    """A padding value as the pixels hold it: 63536 in a file of signed 16-bit pixels is -2000."""
    bits, is_signed = int(tags.BitsAllocated), int(tags.get("PixelRepresentation") or 0) == 1
    if is_signed:
        return value - (1 << bits) if value >= 1 << (bits - 1) else value
    return value + (1 << bits) if value < 0 else value


def _is_believed(values: np.ndarray, is_padding: np.ndarray, modality: Modality) -> bool:
    """Whether what is called padding is nothing else: some files name a value that is also that of water or tissue."""
    padded = values[is_padding]
    if modality == "ct":
        return bool(((padded <= TISSUE_HU[0]) | (padded >= TISSUE_HU[1])).all())
    rest = values[~is_padding]
    below, above = (rest < padded.min()).mean() if rest.size else 0, (rest > padded.max()).mean() if rest.size else 0
    return min(below, above) < 0.01
