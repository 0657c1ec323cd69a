"""People whose scans arrive in a bucket: the example slices, as the files of several people."""

from io import BytesIO
from pathlib import Path

import pydicom

from storage.uri import join, write_bytes
from tests.storage.dicom_files import uid

EXAMPLES = Path(__file__).parents[2] / "examples" / "ct"
N_SLICES = 2


def people() -> list[list[Path]]:
    """Four people of two slices each."""
    files = sorted(EXAMPLES.rglob("*.dcm"))
    return [files[i : i + N_SLICES] for i in range(0, len(files), N_SLICES)]


def arrive(scans: str, number: int) -> str:
    """The study of a person lies in the bucket afterwards, below chest; the person's name."""
    name = f"P{number:04d}"
    for i, file in enumerate(people()[number]):
        image = pydicom.dcmread(file)
        image.PatientID = image.PatientName = name
        image.StudyInstanceUID, image.SeriesInstanceUID = uid("study", name), uid("series", name)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid(name, i)
        content = BytesIO()
        image.save_as(content)
        write_bytes(join(scans, "chest", name, f"{i:04d}.dcm"), content.getvalue())
    return name
