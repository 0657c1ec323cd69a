"""Real DICOM files for tests, written with pydicom."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

AXIAL = [1, 0, 0, 0, 1, 0]
CORONAL = [1, 0, 0, 0, 0, -1]
SAGITTAL = [0, 1, 0, 0, 0, -1]

MR: dict[str, Any] = {
    "SOPClassUID": MRImageStorage,
    "Modality": "MR",
    "RescaleSlope": None,
    "RescaleIntercept": None,
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
}
"""Tags of a magnitude image: its values are what is stored."""


def uid(*words: object) -> str:
    """A valid UID that depends on the words only."""
    return str(generate_uid(entropy_srcs=[str(word) for word in words]))


def dataset(stored: np.ndarray, *, series: str = "a", number: int = 0, **tags: Any) -> FileDataset:
    """A CT slice ``number`` of a series, 5 mm apart, with HU = stored - 1024; tags replace these or, if None, go.

    Every patient has a study.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = uid(series, number)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    usual = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": uid(series, number),
        "SeriesInstanceUID": uid(series),
        "StudyInstanceUID": uid("study", tags.get("PatientID", "P1")),
        "Modality": "CT",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientBirthDate": "19700101",
        "InstanceNumber": number,
        "ImageOrientationPatient": AXIAL,
        "ImagePositionPatient": [-10, -20, 5.0 * number],
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 5,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "Rows": stored.shape[-2],
        "Columns": stored.shape[-1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 8 * stored.dtype.itemsize,
        "BitsStored": 8 * stored.dtype.itemsize,
        "HighBit": 8 * stored.dtype.itemsize - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.tobytes(),
    }
    for name, value in {**usual, **tags}.items():
        if value is not None:
            setattr(ds, name, value)
    return ds


def save(path: Path, ds: FileDataset, *, syntax: str = ExplicitVRLittleEndian) -> Path:
    """The dataset as a file, in an uncompressed or deflated transfer syntax."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    return path


def stored_slice(number: int = 0, shape: tuple[int, int] = (12, 10), dtype: str = "uint16") -> np.ndarray:
    """Random stored values that differ from slice to slice."""
    return np.random.default_rng(number).integers(0, 3000, shape).astype(dtype)


def body(number: int = 0) -> np.ndarray:
    """A lopsided head as magnitudes, (24, 20) uint16: air 0, tissue 300, and 900 in a part of it."""
    stored = np.zeros((24, 20), np.uint16)
    stored[4:20, 3:15] = 300
    stored[6 + number % 4 : 10 + number % 4, 5:9] = 900
    return stored


def write_series(folder: Path, numbers: list[int], *, series: str = "a", **tags: Any) -> list[Path]:
    """Files called 0000.dcm, 0001.dcm, ... that hold these slices of a series."""
    return [
        save(folder / f"{i:04d}.dcm", dataset(stored_slice(number), series=series, number=number, **tags))
        for i, number in enumerate(numbers)
    ]


SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
