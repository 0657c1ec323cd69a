"""Slices of the OpenKBP data set (Babier et al., Med. Phys. 48, 2021): head and neck CT as CSV tables.

``ct.csv`` lists flat indices into a 128 x 128 x 128 array in C order (row, column, slice) and values of
HU + 1024; voxels that are not listed are air. ``voxel_dimensions.csv`` beside it has the three voxel
sizes in mm. Slice 0 is at the top of the head.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from pydantic import Field

from scoreinv.modality import MODALITIES
from scoreinv.spec import Json
from storage.errors import SourceError
from storage.listing import Rejected, SliceRecord
from storage.sources.catalogue import Catalogue, Memory
from storage.sources.copies import opened
from storage.sources.files import Stamp, damage_explained, name_of, stamps_below
from storage.sources.limits import volume_within_limits
from storage.sources.nifti_file import VOXEL_MM
from storage.sources.source import NO_CATALOGUE, Select, Source, Volume, checked, item_from_json, item_to_json
from storage.uri import Place

N_VOXELS = 128
"""Along each axis."""

STORED_WATER = 1024
"""What is stored where the value is 0 HU."""

SIZES = "voxel_dimensions.csv"

MAX_FILE_BYTES, MAX_SIZES_BYTES = 1 << 26, 1 << 12
"""Of a table that lists every voxel, with decimals; and of three numbers."""


class OpenKBPSource(Source):
    """Slices of the patients below a folder: every folder that holds a ct.csv is a patient."""

    kind: Literal["openkbp"] = "openkbp"
    path: Place = Field(min_length=1, description="A folder with one folder per patient, or one patient's folder.")
    select: Select = Select()

    def scan(self, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Volume | Rejected]:
        """One volume per patient, sorted by folder."""
        stamps = self.stamps()
        files = [file for file in sorted(stamps) if PurePosixPath(file).name == "ct.csv"]
        if not files:
            raise SourceError(f"there is no ct.csv in {self.path}: give the folder that holds the patients' folders")
        with catalogue.memory(self.digest(), stamps) as memory:
            for file in files:
                if self.wants(self._subject(file)):
                    yield self._remembered(file, memory)

    def stamps(self) -> dict[str, Stamp]:
        """Those of the files below the path."""
        return stamps_below(self.path)

    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """Hounsfield units, (128, 128) float32."""
        for file, group in groupby(records, key=lambda record: record.file):
            try:
                hounsfield = self._read(file)
            except SourceError as error:
                raise SourceError(f"{file} can no longer be read, ingest it anew: {error}") from error
            yield from (hounsfield[record.index] for record in group)

    def _read(self, file: str) -> np.ndarray:
        with opened(self.path, file, at_most=MAX_FILE_BYTES + 1) as path:
            return volume_within_limits(read_volume, path)

    def _subject(self, file: str) -> str:
        # The name of the source's own folder, where the table lies in it.
        return PurePosixPath(file).parent.name or name_of(self.path)

    def _volume_id(self, file: str) -> str:
        parent = str(PurePosixPath(file).parent)
        return self._subject(file) if parent == "." else parent

    def _remembered(self, file: str, memory: Memory) -> Volume | Rejected:
        files = [file, str(PurePosixPath(file).with_name(SIZES))]
        if (kept := memory.recall(file, files)) is not None:
            return item_from_json(kept)
        item = self._volume(file)
        if isinstance(item, Volume):
            memory.keep(file, files, item_to_json(item))
        return item

    def _volume(self, file: str) -> Volume | Rejected:
        try:
            beside = str(PurePosixPath(file).with_name(SIZES))
            with opened(self.path, beside, at_most=MAX_SIZES_BYTES + 1) as path:
                sizes = _read_voxel_sizes(path)
            hounsfield = self._read(file)
            if hounsfield.min() == hounsfield.max():
                raise SourceError("the volume is empty: all its voxels have the same value")
        except SourceError as error:
            return Rejected(file=file, reason=str(error))
        records = [self._record(file, index, sizes) for index in range(N_VOXELS)]
        slices = [checked(record, hounsfield[record.index], "ct") for record in self.select.thinned(records)]
        return Volume(self._volume_id(file), _geometry(sizes), self.select.chosen(slices))

    def _record(self, file: str, index: int, sizes: tuple[float, float, float]) -> SliceRecord:
        return SliceRecord(
            slice_id=f"{file}#{index}",
            volume_id=self._volume_id(file),
            subject_id=self._subject(file),
            file=file,
            index=index,
            position_mm=index * sizes[2],
            spacing_mm=sizes[:2],
            shape=(N_VOXELS, N_VOXELS),
        )


def _geometry(sizes: tuple[float, float, float]) -> dict[str, Json]:
    return {"spacing_mm": [*sizes[:2]], "slice_spacing_mm": sizes[2], "units": MODALITIES["ct"].units}


def _read_voxel_sizes(path: Path) -> tuple[float, float, float]:
    with damage_explained():
        _refuse_large(path, MAX_SIZES_BYTES)
        sizes = np.loadtxt(path, ndmin=1)
    low, high = VOXEL_MM
    if sizes.shape != (3,) or not np.isfinite(sizes).all() or sizes.min() < low or sizes.max() > high:
        raise SourceError(f"{path.name} must have three positive voxel sizes, of {low:g} to {high:g} mm")
    return float(sizes[0]), float(sizes[1]), float(sizes[2])


def _refuse_large(path: Path, n_bytes: int) -> None:
    if path.stat().st_size > n_bytes:
        raise SourceError(f"{path.name} has more than {n_bytes} bytes")


def read_volume(path: Path) -> np.ndarray:
    """Hounsfield units, (slices, rows, columns) float32, of a table ct.csv.

    Raises:
        SourceError: if it is no such table.
    """
    with damage_explained():
        _refuse_large(path, MAX_FILE_BYTES)
        table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    if table.shape[1] != 2 or not np.isfinite(table).all():
        raise SourceError(f"the table has {table.shape[1]} columns of numbers: a flat index and a value were wanted")
    index, n = table[:, 0].astype(np.int64), N_VOXELS**3
    if index.size and (index.min() < 0 or index.max() >= n or (index != table[:, 0]).any()):
        raise SourceError(f"the table has flat indices from {index.min()} to {index.max()}, 0 to {n - 1} were wanted")
    if index.size and table[:, 1].min() < 0:
        raise SourceError(
            f"the table has values down to {table[:, 1].min():g}: HU + {STORED_WATER}, 0 or more, was wanted"
        )
    stored = np.zeros(n, np.float32)
    stored[index] = table[:, 1]
    volume = stored.reshape(N_VOXELS, N_VOXELS, N_VOXELS) - STORED_WATER
    return np.ascontiguousarray(volume.transpose(2, 0, 1))
