"""A source of images that tests put into buckets."""

from pathlib import Path
from typing import Any

from storage.uri import join, write_bytes
from tests.storage.dicom_files import write_series

N_SERIES, N_SLICES = 8, 16


def write_source(folder: Path, *, n_series: int = N_SERIES, n_slices: int = N_SLICES) -> Path:
    """DICOM series of a person each, and a file that is cut off."""
    for i in range(n_series):
        write_series(folder / f"p{i}", list(range(n_slices)), series=f"s{i}", PatientID=f"P{i}")
    whole = (folder / "p0" / "0000.dcm").read_bytes()
    (folder / "p0" / "cut.dcm").write_bytes(whole[:400])
    return folder


def copy_to(folder: Path, uri: str) -> str:
    """The files below a folder, below a URI."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        write_bytes(join(uri, file.relative_to(folder).as_posix()), file.read_bytes())
    return uri


def recipe(source: str, *, shard_size: int = 32) -> dict[str, Any]:
    """A pipeline on such a source, as a recipe's file holds it."""
    image = {"modality": "ct", "size": 16, "pixel_mm": 0.75, "low": -1000, "high": 1000}
    return {
        "title": "Buckets",
        "studies": [
            {
                "name": "ct",
                "ingest": {
                    "source": {"kind": "dicom", "path": source, "takes_any_values": True},
                    "image": image,
                    "shard_size": shard_size,
                },
                "simulation": {"measurement": {"kind": "sparse_view_ct", "n_views": 8}},
                "reconstructions": [{"method": {"kind": "direct"}}],
            }
        ],
    }
