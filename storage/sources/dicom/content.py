"""The bytes of one DICOM file as a data set of tags. Every file is treated as untrusted input."""

import io
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.misc import is_dicom
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from storage.errors import SourceError

MAX_FILE_BYTES = 1 << 27
"""Of a file, packed or not: twice the largest slice that is taken."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is worth a try: it has DICOM's preamble, or a name that promises DICOM."""
    return path.name.upper() != "DICOMDIR" and (_has_dicom_name(path) or bool(is_dicom(path)))


def read_tags(path: Path, *, stop_before_pixels: bool) -> Dataset:
    """All tags of a file, or those before its pixels.

    Raises:
        SourceError: if it is, or unpacks to, more than a slice can have.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise SourceError(f"the file has {size} bytes, more than the {MAX_FILE_BYTES} that a slice can have")
    # A file of this name without a preamble may still be DICOM; anything else needs the preamble.
    is_forced = _has_dicom_name(path)
    with path.open("rb") as file:
        meta = _meta(file, is_forced=is_forced)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _inflated(file.read(), meta, stop_before_pixels=stop_before_pixels)
    return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, force=is_forced)


def transfer_syntax(tags: Dataset) -> UID:
    """How the data set is encoded."""
    syntax = tags.file_meta.get("TransferSyntaxUID") if hasattr(tags, "file_meta") else None
    return UID(syntax or ImplicitVRLittleEndian)


def numbers(tags: Dataset, name: str, count: int) -> tuple[float, ...]:
    """The values of a tag, or nothing if there are not just as many finite numbers."""
    found = tags.get(name)
    items = found if isinstance(found, MultiValue) else [found]
    try:
        values = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return ()
    return values if len(values) == count and np.isfinite(values).all() else ()


def number(tags: Dataset, name: str) -> float | None:
    """The value of a tag, the first one of several; None if it is no finite number."""
    return _first_number(tags.get(name))


def private_number(tags: Dataset, group: int, element: int, creator: str) -> float | None:
    """The same of a vendor's own tag."""
    try:
        return _first_number(tags.private_block(group, creator)[element].value)
    except KeyError:
        return None


def words(tags: Dataset, name: str) -> tuple[str, ...]:
    """The values of a tag as stripped text, those that are not empty."""
    found = tags.get(name)
    items = found if isinstance(found, MultiValue) else [found]
    return tuple(text for item in items if item is not None and (text := str(item).strip(" \0\t\r\n")))


def word(tags: Dataset, name: str) -> str:
    """The value of a tag as stripped text, "" where there is none."""
    return "\\".join(words(tags, name))


def _first_number(found: object) -> float | None:
    first = found[0] if isinstance(found, MultiValue) and found else found
    try:
        value = float(first)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _has_dicom_name(path: Path) -> bool:
    return path.suffix.lower() in _DICOM_SUFFIXES


def _meta(file: BinaryIO, *, is_forced: bool) -> Dataset:
    """The tags of group 2, which say how the rest is encoded; the file then stands behind them."""
    read_preamble(file, is_forced)
    return read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_is_behind_meta)


def _is_behind_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return bool(tag.group != 2)


def _is_at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXELS


def _inflated(packed: bytes, meta: Dataset, *, stop_before_pixels: bool) -> Dataset:
    # Not by pydicom, which unpacks without a bound.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(packed, MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise SourceError(f"the deflated file unpacks to more than the {MAX_FILE_BYTES} bytes that a slice can have")
    if not inflater.eof:
        raise SourceError(f"truncated: the deflated file ends after {len(content)} unpacked bytes")
    stop_when = _is_at_pixels if stop_before_pixels else None
    tags = read_dataset(io.BytesIO(content), is_implicit_VR=False, is_little_endian=True, stop_when=stop_when)
    tags.file_meta = FileMetaDataset(meta)
    tags.set_original_encoding(is_implicit_vr=False, is_little_endian=True)
    return tags
