"""Axial slices from NIfTI volumes.

A volume is turned to the closest canonical orientation (right, anterior, superior), and its axial
slices, along the third axis, are laid out as radiologists see them: rows from anterior (top) to
posterior, columns from the patient's right (left side of the image) to the left.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from itertools import groupby
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from pydantic import Field

from scoreinv.modality import MODALITIES, Modality
from storage.errors import SourceError
from storage.listing import Rejected, SliceRecord
from storage.sources.catalogue import Catalogue, Memory
from storage.sources.content import complex_part_reason, foreign_reason, not_hounsfield_reason
from storage.sources.copies import opened
from storage.sources.files import Stamp, stamps_below
from storage.sources.limits import volume_within_limits
from storage.sources.nifti_file import Scan, read_scan
from storage.sources.source import (
    NO_CATALOGUE,
    Checked,
    Select,
    Source,
    Volume,
    box_offset_and_scale,
    checked,
    item_from_json,
    item_to_json,
    mri_offset_and_scale,
    percentile_units,
)
from storage.uri import Place


class NiftiSource(Source):
    """Slices of the .nii and .nii.gz files of a folder tree.

    The subject is the first folder below the path that a file lies in, or the file's name without its
    ending where it lies in the path itself: give the folder that holds one folder (or file) per subject.
    """

    kind: Literal["nifti"] = "nifti"
    path: Place = Field(
        min_length=1, description="A folder (searched to the bottom) or one file; shipped:mri: example slices."
    )
    pattern: str = Field(default="*", description='Only files whose relative name fits, as "*T1*".')
    modality: Modality = Field(default="mri", description="mri: magnitude images; ct: Hounsfield units as stored.")
    percentile: float = Field(default=99.5, gt=50, le=100, description="MRI: a value of 1, within the foreground.")
    scale: Literal["percentile", "range"] = Field(
        default="percentile",
        description="MRI: what a value of 1 is; range: the highest of the volume, clipped at six deviations, as Song "
        "et al. 2022 scale BraTS (skull-stripped).",
    )
    select: Select = Select()
    takes_labels: bool = Field(
        default=False, description="Also what looks like labels, masks, maps or phases, not images."
    )
    takes_any_values: bool = Field(default=False, description="CT: also values that do not look like HU.")
    offset_hu: float = Field(
        default=0.0,
        allow_inf_nan=False,
        description="CT: added to the stored values, as -1024 where they are HU + 1024.",
    )

    def scan(self, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Volume | Rejected]:
        """One volume per file, sorted by name."""
        stamps = self.stamps()
        files = [file for file in sorted(stamps) if _is_nifti(file) and self._fits(file)]
        if not files:
            raise SourceError(
                f"there is no .nii or .nii.gz file that fits {self.pattern!r} in {self.path}: "
                "give the folder that holds the volumes, or another pattern"
            )
        with catalogue.memory(self.digest(), stamps) as memory:
            for file in files:
                if self.wants(_subject(file)):
                    yield self._volume(file, memory)

    def stamps(self) -> dict[str, Stamp]:
        """Those of the files below the path."""
        return stamps_below(self.path)

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """HU for CT; for MRI the part of the volume's percentile."""
        for file, group in groupby(records, key=lambda record: record.file):
            try:
                values = self._read(file).values
            except SourceError as error:
                raise SourceError(f"{file} can no longer be read, ingest it anew: {error}") from error
            yield from (self._physical(values, record) for record in group)

    def _fits(self, file: str) -> bool:
        return fnmatch(unicodedata.normalize("NFC", file), unicodedata.normalize("NFC", self.pattern))

    def _read(self, file: str) -> Scan:
        with opened(self.path, file) as path:
            scan = volume_within_limits(read_scan, path)
        if self.modality == "ct" and self.offset_hu:
            return scan._replace(values=scan.values + np.float32(self.offset_hu))
        return scan

    def _volume(self, file: str, memory: Memory) -> Volume | Rejected:
        if (kept := memory.recall(file, [file])) is not None:
            return item_from_json(kept)
        try:
            scan = self._read(file)
        except SourceError as error:
            # For a reason that may pass: a limit of time, a disk, a package.
            return Rejected(file=file, reason=str(error))
        item = self._judged(file, scan)
        memory.keep(file, [file], item_to_json(item))
        return item

    def _judged(self, file: str, scan: Scan) -> Volume | Rejected:
        try:
            self._refuse_no_image(file, scan)
            offset, scale = self._offset_and_scale(scan.values)
        except SourceError as error:
            return Rejected(file=file, reason=str(error))
        records = [_record(file, k, scan).model_copy(update={"offset": offset, "scale": scale}) for k in _indices(scan)]
        slices = [self._checked(scan, record) for record in self.select.thinned(records)]
        units = MODALITIES[self.modality].units
        return Volume(
            file, {**scan.geometry, "units": units, "offset": offset, "scale": scale}, self.select.chosen(slices)
        )

    def _offset_and_scale(self, values: np.ndarray) -> tuple[float, float]:
        if not MODALITIES[self.modality].is_relative:
            return 0.0, 1.0
        return box_offset_and_scale(values) if self.scale == "range" else mri_offset_and_scale(values, self.percentile)

    def _refuse_no_image(self, file: str, scan: Scan) -> None:
        if scan.values.min() == scan.values.max():
            raise SourceError(f"the volume is empty: all its voxels have the value {scan.values.min():g}")
        if not self.takes_labels and (reason := self._foreign_reason(file, scan)):
            raise SourceError(reason)
        if self.modality == "ct" and not self.takes_any_values and (reason := not_hounsfield_reason(scan.values)):
            raise SourceError(
                f"{reason}; convert the file to HU (source.offset_hu=-1024 does it for HU + 1024), or set "
                "source.takes_any_values=true to take the values as they are"
            )

    def _foreign_reason(self, file: str, scan: Scan) -> str | None:
        part = complex_part_reason(file, scan.values) if self.modality == "mri" else None
        return part or foreign_reason(file, scan.intent, scan.values)

    def _checked(self, scan: Scan, record: SliceRecord) -> Checked:
        return checked(record, self._physical(scan.values, record), self.modality)

    def _physical(self, values: np.ndarray, record: SliceRecord) -> np.ndarray:
        if not record.index < len(values):
            raise SourceError(
                f"{record.file} has {len(values)} slices, slice {record.index} was listed: ingest it anew"
            )
        one = values[record.index]
        return percentile_units(one, record) if MODALITIES[self.modality].is_relative else one


def _indices(scan: Scan) -> range:
    return range(len(scan.values))


def _is_nifti(file: str) -> bool:
    return file.lower().endswith((".nii", ".nii.gz"))


def _subject(file: str) -> str:
    # An accent may be written as one letter or as two: one person all the same.
    parts = PurePosixPath(unicodedata.normalize("NFC", file)).parts
    return parts[0] if len(parts) > 1 else parts[0].split(".nii")[0]


def _record(file: str, index: int, scan: Scan) -> SliceRecord:
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
