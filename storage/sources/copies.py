"""Files of a source as files of this machine: readers decode in a process with limits, and that reads paths.

A file of a bucket is copied, for as long as it is read; what is read twice is fetched once, where there is room.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from typing import IO

from storage.errors import SourceError, StoreError, StoreNotFound
from storage.remote import remote
from storage.sources.files import gone, is_remote, is_utf8, path_of
from storage.uri import join, read_range

PIECE_BYTES = 1 << 26
"""A file of a bucket comes in pieces of this size: most come in one."""

MAX_COPY_BYTES = (1 << 32) + (1 << 20)
"""Of a file of a bucket no more is fetched: no volume that is read has more."""

KEPT_FILE_BYTES, KEPT_BYTES = 1 << 24, 1 << 34
"""Files up to this size are kept, up to so many bytes in all, and up to a quarter of what is free on the disk."""

_NOTHING = "no-such-file-of-scoreinv"


@contextmanager
def opened(path: str, file: str, *, at_most: int = MAX_COPY_BYTES) -> Iterator[Path]:
    """A block in which one of a source's files is a file of this machine: itself, or a copy that is gone afterwards.

    Args:
        at_most: bytes of a copy, a longer file is cut there: one more than whoever reads it takes.

    Raises:
        SourceError: if the name is not UTF-8 or would lead out of the source, or the file has gone, or cannot be
            fetched although the source can be reached.
        ConnectionError: if the source cannot be reached.
    """
    if not is_utf8(file):
        raise SourceError("its name is not UTF-8: rename it (convmv -r -f latin1 -t utf8 --notest mends whole folders)")
    if not is_remote(path):
        yield path_of(path, file)
        return
    with TemporaryFile() as copy, TemporaryDirectory() as folder:
        _fetch(path, file, copy, at_most)
        # The copy itself has no name: nobody's images stay where this process is killed. Its ending tells formats.
        place = Path(folder, PurePosixPath(file).name[-60:])
        place.symlink_to(f"/proc/{os.getpid()}/fd/{copy.fileno()}")
        yield place


@contextmanager
def fetched_once() -> Iterator[None]:
    """A block in which files of buckets, as far as they are small, are fetched once, however often they are opened."""
    kept = _Kept()
    _KEPT.append(kept)
    try:
        yield
    finally:
        _KEPT.remove(kept)
        kept.content.close()


class _Kept:
    """Files one after the other in a file without a name, with the place and the length of each."""

    def __init__(self) -> None:
        self.content = TemporaryFile()  # noqa: SIM115  (closed by whoever made this)
        self.places: dict[str, tuple[int, int]] = {}
        self.size = 0
        self.room = min(KEPT_BYTES, shutil.disk_usage(gettempdir()).free // 4)

    def put(self, uri: str, content: bytes) -> None:
        """Keep a file, if there is room."""
        if len(content) <= KEPT_FILE_BYTES and self.size + len(content) <= self.room:
            self.content.seek(self.size)
            self.content.write(content)
            self.places[uri] = self.size, len(content)
            self.size += len(content)

    def get(self, uri: str) -> bytes | None:
        """A file that was kept."""
        if uri not in self.places:
            return None
        place, length = self.places[uri]
        self.content.seek(place)
        return self.content.read(length)


_KEPT: list[_Kept] = []
"""Of the blocks that this process is in."""


def _fetch(path: str, file: str, copy: IO[bytes], at_most: int) -> None:
    uri = _uri_of(path, file)
    kept = next((found for one in _KEPT if (found := one.get(uri)) is not None), None)
    if kept is not None:
        copy.write(kept)
    else:
        for piece in _pieces(path, uri, at_most):
            copy.write(piece)
            if _KEPT and copy.tell() == len(piece) < PIECE_BYTES:
                _KEPT[-1].put(uri, piece)
    copy.flush()


def _pieces(path: str, uri: str, at_most: int) -> Iterator[bytes]:
    start, wanted = 0, min(PIECE_BYTES, at_most)
    while wanted > 0:
        piece = _piece(path, uri, start, start + wanted)
        yield piece
        start += len(piece)
        wanted = min(PIECE_BYTES, at_most - start) if len(piece) == wanted else 0


def _piece(path: str, uri: str, start: int, stop: int) -> bytes:
    try:
        return read_range(uri, start, stop)
    except StoreNotFound as error:
        raise SourceError(gone(uri)) from error
    except (StoreError, ConnectionError) as error:
        # One object that cannot be had is a file like a damaged one; a network that is gone stops the run.
        _require_reachable(path)
        raise SourceError(f"it cannot be fetched: {error}") from error


def _require_reachable(path: str) -> None:
    with suppress(FileNotFoundError), remote(path) as (filesystem, place):
        filesystem.info(f"{place.rstrip('/')}/{_NOTHING}")


def _uri_of(path: str, file: str) -> str:
    # A source of one file is that file; a folder may hold a file that is called as the folder.
    if file == path.rstrip("/").rpartition("/")[2]:
        with remote(path) as (filesystem, place):
            if filesystem.isfile(place):
                return path
    try:
        return join(path, file)
    except ValueError as error:
        raise SourceError(str(error)) from error
