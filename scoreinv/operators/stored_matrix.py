"""Matrices in files of this machine: made once for all processes, in blocks of views.

A product maps one block after the other into memory, read only, and lets go of it: a process holds one block at a time,
whatever the size of the whole, and all processes share what the system keeps of the file.

The folder is $SCOREINV_PROJECTORS, or scoreinv-<user id>-projectors in the system's folder for temporary files. To
remove it costs the time to fill it again. Files hold raw numbers and are never executed. A file is named by the
geometry, by some of its rows and by the format; one process writes it, under a lock, and it gets its name when it is
whole. What was not used for longest goes when there is more than ``KEPT_BYTES``.

    file    int64 entries of each block, then the blocks, each at a multiple of the page size
    block   int32 starts (n_rows + 1), int32 columns (entries), values (entries), each at a multiple of 8 bytes
"""

import fcntl
import hashlib
import mmap
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.operators.geometry import Geometry
from scoreinv.operators.projection_matrix import ENTRY_BYTES, as_csr, n_bytes, rows_of

FOLDER = "SCOREINV_PROJECTORS"
"""The variable of the environment that names the folder."""

BLOCK_BYTES = 128e6
"""About as much of a matrix is in memory at a time."""

KEPT_BYTES = 32 * 2**30
"""Of all files together, once a new one is made."""

PAGE = mmap.ALLOCATIONGRANULARITY

FORMAT = 1
"""Of the files: raised when it changes."""


class Wanted(NamedTuple):
    """A matrix, or its transpose."""

    geometry: Geometry
    dtype: torch.dtype
    is_transposed: bool

    def views(self) -> list[range]:
        """Of each block."""
        n_views = self.geometry.data_shape[0]
        n = max(1, int(BLOCK_BYTES * n_views / n_bytes(self.geometry)))
        return [range(first, min(first + n, n_views)) for first in range(0, n_views, n)]

    def shapes(self) -> list[tuple[int, int]]:
        """Of each block, (rows, columns)."""
        pixels, n_bins = self.geometry.size**2, self.geometry.data_shape[1]
        heights = [len(views) * n_bins for views in self.views()]
        return [(pixels, height) if self.is_transposed else (height, pixels) for height in heights]

    def name(self) -> str:
        """Of the file. Two views' rows are in it, so that code that computes other rows finds no older ones."""
        n_views = self.geometry.data_shape[0]
        digest = hashlib.sha256(repr((*self, FORMAT, BLOCK_BYTES)).encode())
        for view in (n_views // 3, n_views - 1):
            rows = self.geometry.rows(view)
            for part in (rows.indptr, rows.indices, rows.data):
                digest.update(np.ascontiguousarray(part).data)
        return f"{digest.hexdigest()[:24]}.csr"


class StoredMatrix:
    """The blocks of a matrix in a file that is whole. The file is kept open, so it may be removed meanwhile."""

    def __init__(self, file: BinaryIO, wanted: Wanted) -> None:
        self.file = file
        self.shapes = wanted.shapes()
        self.dtype = wanted.dtype
        self.counts = _counts(file, wanted)
        self.on_device: dict[torch.device, list[Tensor]] = {}

    def blocks(self, device: torch.device) -> Iterator[Tensor]:
        """One after the other, as sparse CSR tensors; any other device than the CPU keeps them all."""
        if device.type == "cpu":
            return self._mapped()
        if device not in self.on_device:
            self.on_device[device] = [block.to(device) for block in self._mapped()]
        return iter(self.on_device[device])

    def _mapped(self) -> Iterator[Tensor]:
        offset = _head_bytes(len(self.shapes))
        for shape, count in zip(self.shapes, self.counts, strict=True):
            length = _block_bytes(shape[0], count, self.dtype.itemsize)
            # The mapping ends with the last tensor that lies in it.
            mapping = mmap.mmap(self.file.fileno(), length, access=mmap.ACCESS_READ, offset=offset)
            yield _block(mapping, shape, count, self.dtype)
            offset += length


@lru_cache(maxsize=8)
def stored_matrix(geometry: Geometry, dtype: torch.dtype, *, is_transposed: bool) -> StoredMatrix:
    """The matrix of a geometry, or its transpose, from the folder; made first where it is not there.

    Raises:
        UserError: if the folder is another user's, or the disk has no room.
    """
    wanted, folder = Wanted(geometry, dtype, is_transposed), _folder()
    path = folder / wanted.name()
    if not _is_whole(path, wanted):
        with _alone(folder):
            # Another process may have made it while this one waited.
            if not _is_whole(path, wanted):
                _make_room(folder, n_bytes(geometry) / ENTRY_BYTES * (4 + dtype.itemsize))
                _make(path, wanted)
    os.utime(path)
    return StoredMatrix(path.open("rb"), wanted)


def _is_whole(path: Path, wanted: Wanted) -> bool:
    if not path.exists() or path.stat().st_size < _head_bytes(len(wanted.views())):
        return False
    with path.open("rb") as file:
        counts = _counts(file, wanted)
    blocks = [
        _block_bytes(shape[0], n, wanted.dtype.itemsize) for shape, n in zip(wanted.shapes(), counts, strict=True)
    ]
    return path.stat().st_size == _head_bytes(len(blocks)) + sum(blocks)


def _counts(file: BinaryIO, wanted: Wanted) -> list[int]:
    """Entries of each block."""
    return [int(count) for count in np.fromfile(file, np.int64, len(wanted.views()))]


def _block(mapping: mmap.mmap, shape: tuple[int, int], count: int, dtype: torch.dtype) -> Tensor:
    columns = _padded(4 * (shape[0] + 1), 8)
    values = columns + _padded(4 * count, 8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return as_csr(
            torch.frombuffer(mapping, dtype=torch.int32, count=shape[0] + 1),
            torch.frombuffer(mapping, dtype=torch.int32, count=count, offset=columns),
            torch.frombuffer(mapping, dtype=dtype, count=count, offset=values),
            shape,
        )


def _head_bytes(n_blocks: int) -> int:
    return _padded(8 * n_blocks, PAGE)


def _block_bytes(n_rows: int, count: int, itemsize: int) -> int:
    return _padded(_padded(4 * (n_rows + 1), 8) + _padded(4 * count, 8) + itemsize * count, PAGE)


def _padded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _folder() -> Path:
    """The folder, made where it is not there.

    Raises:
        UserError: if the one among the temporary files is another user's.
    """
    if chosen := os.environ.get(FOLDER):
        folder = Path(chosen)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.gettempdir()) / f"scoreinv-{os.getuid()}-projectors"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Everybody may write among the temporary files, a link too.
    if folder.lstat().st_uid != os.getuid():
        raise UserError(f"{folder} belongs to another user: set {FOLDER} to a folder of your own")
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time. A lock ends with its process, so what is half written now is nobody's."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for half in folder.glob("*.half"):
            half.unlink()
        yield


def _make_room(folder: Path, needed: float) -> None:
    """Remove what was not used for longest, so that all stays within ``KEPT_BYTES``.

    Raises:
        UserError: if the disk has no room even so.
    """
    total = needed
    for file in sorted(folder.glob("*.csr"), key=lambda file: file.stat().st_mtime, reverse=True):
        total += file.stat().st_size
        if total > KEPT_BYTES:
            file.unlink()
    free = shutil.disk_usage(folder).free
    if free < 1.2 * needed:
        raise UserError(
            f"the matrix of this CT geometry takes about {needed / 1e9:.1f} GB in {folder}, where "
            f"{free / 1e9:.1f} GB are free: set {FOLDER} to a folder with more room"
        )


def _make(path: Path, wanted: Wanted) -> None:
    half = path.with_suffix(".half")
    try:
        with half.open("wb") as file:
            _write(file, wanted)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        half.unlink()
        raise
    half.replace(path)


def _write(file: BinaryIO, wanted: Wanted) -> None:
    counts, value_type = [], str(wanted.dtype).removeprefix("torch.")
    file.seek(_head_bytes(len(wanted.views())))
    for views in wanted.views():
        matrix = rows_of(wanted.geometry, views, transposed=wanted.is_transposed)
        counts.append(len(matrix.data))
        _write_padded(file, matrix.indptr.astype(np.int32), 8)
        _write_padded(file, matrix.indices.astype(np.int32), 8)
        _write_padded(file, matrix.data.astype(value_type), PAGE)
    file.truncate()
    file.seek(0)
    file.write(np.array(counts, np.int64).data)


def _write_padded(file: BinaryIO, array: np.ndarray, multiple: int) -> None:
    file.write(array.data)
    file.seek(_padded(file.tell(), multiple))
