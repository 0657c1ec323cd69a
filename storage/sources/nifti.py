"""Axial slices from NIfTI volumes.

A volume is turned to the closest canonical orientation (right, anterior, superior), and its axial
slices, along the third axis, are laid out as radiologists see them: rows from anterior (top) to
posterior, columns from the patient's right (left side of the image) to the left.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import nibabel
import numpy as np
from pydantic import Field

from scoreinv.contract import Modality
from storage.datasets import UNITS, Rejected, SliceRecord
from storage.errors import SourceError
from storage.sources.files import damage_explained, files_below, path_of
from storage.sources.source import Checked, Select, Source, Volume, checked, mri_offset_and_scale, percentile_units

MAX_VOXELS = 1 << 29
"""Of one volume: 2 GiB as float32."""


class _Scan(NamedTuple):
    """A volume as (slices, rows, columns) float32 in stored units, and where it lies."""

    values: np.ndarray
    spacing_mm: tuple[float, float]
    positions_mm: tuple[float, ...]
    geometry: dict[str, Any]


class NiftiSource(Source):
    """Slices of the .nii and .nii.gz files of a folder tree.

    The subject is the first folder below the path that a file lies in, or the file's name without its
    ending where it lies in the path itself: give the folder that holds one folder (or file) per subject.
    """

    kind: Literal["nifti"] = "nifti"
    path: str = Field(description="A folder (searched to the bottom) or one file.")
    pattern: str = Field(default="*", description='Only files whose relative name fits, as "*T1*".')
    modality: Modality = Field(default="mri", description="mri: magnitude images; ct: Hounsfield units as stored.")
    percentile: float = Field(default=99.5, gt=50, le=100, description="MRI: a value of 1, within the foreground.")
    select: Select = Select()

    def scan(self) -> Iterator[Volume | Rejected]:
        """One volume per file, sorted by name."""
        files = [file for file in files_below(self.path) if _is_nifti(file) and fnmatch(file, self.pattern)]
        if not files:
            raise SourceError(
                f"there is no .nii or .nii.gz file that fits {self.pattern!r} in {self.path}: "
                "give the folder that holds the volumes, or another pattern"
            )
        for file in files:
            if self.wants(_subject(file)):
                yield self._volume(file)

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """HU for CT; for MRI the part of the volume's percentile."""
        for file, group in groupby(records, key=lambda record: record.file):
            try:
                values = _read(path_of(self.path, file)).values
            except SourceError as error:
                raise SourceError(f"{file} can no longer be read, ingest it anew: {error}") from error
            yield from (self._physical(values, record) for record in group)

    def _volume(self, file: str) -> Volume | Rejected:
        try:
            scan = _read(path_of(self.path, file))
            offset, scale = mri_offset_and_scale(scan.values, self.percentile) if self.modality == "mri" else (0.0, 1.0)
        except SourceError as error:
            return Rejected(file=file, reason=str(error))
        records = [_record(file, k, scan).model_copy(update={"offset": offset, "scale": scale}) for k in _indices(scan)]
        slices = [self._checked(scan, record) for record in self.select.thinned(records)]
        units = UNITS[self.modality]
        return Volume(
            file, {**scan.geometry, "units": units, "offset": offset, "scale": scale}, self.select.chosen(slices)
        )

    def _checked(self, scan: _Scan, record: SliceRecord) -> Checked:
        return checked(record, self._physical(scan.values, record), self.modality)

    def _physical(self, values: np.ndarray, record: SliceRecord) -> np.ndarray:
        if not record.index < len(values):
            raise SourceError(
                f"{record.file} has {len(values)} slices, slice {record.index} was listed: ingest it anew"
            )
        one = values[record.index]
        return percentile_units(one, record) if self.modality == "mri" else one


def _indices(scan: _Scan) -> range:
    return range(len(scan.values))


def _is_nifti(file: str) -> bool:
    return file.lower().endswith((".nii", ".nii.gz"))


def _subject(file: str) -> str:
    parts = PurePosixPath(file).parts
    return parts[0] if len(parts) > 1 else parts[0].split(".nii")[0]


def _record(file: str, index: int, scan: _Scan) -> SliceRecord:
    rows, columns = scan.values.shape[1:]
    return SliceRecord(
        slice_id=f"{file}#{index}",
        volume_id=file,
        subject_id=_subject(file),
        file=file,
        index=index,
        position_mm=scan.positions_mm[index],
        spacing_mm=scan.spacing_mm,
        shape=(rows, columns),
    )


def _read(path: Path) -> _Scan:
    with damage_explained():
        image = nibabel.load(path)
        _check(image)
        canonical = nibabel.as_closest_canonical(image)
        voxels = np.asarray(canonical.dataobj, dtype=np.float32).reshape(canonical.shape[:3])
        return _upright(voxels, np.asarray(canonical.affine, float), nibabel.aff2axcodes(image.affine))


def _check(image: Any) -> None:
    shape, kind = tuple(image.shape), image.get_data_dtype().kind
    if len(shape) < 3 or any(n != 1 for n in shape[3:]) or min(shape) < 1:
        raise SourceError(f"its shape is {shape}: a volume with three axes was wanted")
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise SourceError(f"its shape is {shape}: more than {MAX_VOXELS} voxels")
    if kind not in "iuf":
        raise SourceError(
            f"its voxels are {image.get_data_dtype()}: real numbers were wanted (take the magnitude first)"
        )
    if not np.isfinite(image.affine).all() or min(np.linalg.norm(image.affine[:3, :3], axis=0)) <= 0:
        raise SourceError("its affine has no finite, positive voxel sizes")


def _upright(voxels: np.ndarray, affine: np.ndarray, codes: Sequence[str]) -> _Scan:
    x_mm, y_mm, _ = (float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
    # (x, y, z) pointing right, anterior, superior -> (z, rows to posterior, columns to the patient's left).
    values = np.ascontiguousarray(voxels.transpose(2, 1, 0)[:, ::-1, ::-1])
    finite = np.isfinite(values)
    if not finite.any():
        raise SourceError("none of its voxels is a finite number")
    values[~finite] = values[finite].min()
    geometry = {
        "affine": affine.tolist(),
        "stored_orientation": "".join(codes),
        "spacing_mm": [y_mm, x_mm],
        "n_slices": len(values),
        "n_not_finite": int((~finite).sum()),
    }
    positions = tuple(float(affine[2, 2] * k + affine[2, 3]) for k in range(len(values)))
    return _Scan(values, (y_mm, x_mm), positions, geometry)
