"""Folders of input files, on this machine or in a bucket."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from typing import IO, Any, NamedTuple

from scoreinv.shipped import examples_folder
from storage.errors import SourceError, StoreError, StoreNotFound
from storage.remote import remote
from storage.uri import is_local, join, local_path, read_range

SHIPPED = "shipped:"
"""A path that begins so lies in the folder of example slices that comes with the package, as shipped:ct."""


PIECE_BYTES = 1 << 26
"""A file of a bucket comes in pieces of this size: most come in one."""

MAX_COPY_BYTES = (1 << 32) + (1 << 20)
"""Of a file of a bucket no more is fetched: no volume that is read has more."""

KEPT_FILE_BYTES, KEPT_BYTES = 1 << 24, 1 << 34
"""Files up to this size are kept, up to so many bytes in all, and up to a quarter of what is free on the disk."""

_NOTHING = "no-such-file-of-scoreinv"

_ETAGS = ("ETag", "etag")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
"""What file systems of fsspec call them."""


class Stamp(NamedTuple):
    """What tells a file that has changed from one that has not; 0 and "" where it is not known."""

    size: int = 0
    """Bytes."""
    mtime_ns: int = 0
    """When its content was last written, in ns since 1970."""
    ctime_ns: int = 0
    """When it was last changed in any way, as a copy that keeps the other time does."""
    etag: str = ""
    """A bucket's name for its content."""


def root_of(path: str) -> Path:
    """The folder that the names of a source's files are relative to: the path, or the folder of a single file.

    Raises:
        SourceError: if the path does not exist.
    """
    place = _place_of(path)
    if not place.exists():
        raise SourceError(f"{path} does not exist: give an existing folder or file")
    return place if place.is_dir() else place.parent


def name_of(path: str) -> str:
    """What the folder of a source is called."""
    return PurePosixPath(path.rstrip("/")).name if is_remote(path) else root_of(path).absolute().name


def _place_of(path: str) -> Path:
    if not path.startswith(SHIPPED):
        return local_path(path)
    try:
        return Path(join(str(examples_folder()), path.removeprefix(SHIPPED)))
    except ValueError as error:
        raise SourceError(f"{path} names no example slices: write {SHIPPED}ct or {SHIPPED}mri ({error})") from error


def files_below(path: str) -> list[str]:
    """The names of a source's files, as in ``stamps_below``, sorted."""
    return sorted(stamps_below(path))


def stamps_below(path: str) -> dict[str, Stamp]:
    """The files below a folder, or the one file, by their names relative to ``root_of(path)``; hidden ones not.

    Nothing of them is read: one look at each file here, one listing of a bucket.

    Raises:
        SourceError: if the path does not exist.
    """
    if is_remote(path):
        return _remote_stamps(path)
    place, root = _place_of(path), root_of(path)
    if not place.is_dir():
        return {place.name: _stamp(place)}
    found = (Path(folder, name) for folder, name in _walk(root))
    return {file.relative_to(root).as_posix(): _stamp(file) for file in found}


def is_remote(path: str) -> bool:
    """Whether a source lies in a bucket, or in another place of fsspec."""
    return not path.startswith(SHIPPED) and not is_local(path)


def _stamp(file: Path) -> Stamp:
    try:
        about = file.stat()
    except OSError:
        # A link that leads nowhere, or a file that has just gone: whoever reads it says so.
        return Stamp()
    return Stamp(about.st_size, about.st_mtime_ns, about.st_ctime_ns)


def _remote_stamps(path: str) -> dict[str, Stamp]:
    with remote(path) as (filesystem, place):
        top = place.rstrip("/")
        # Not what this process saw before: files may have come.
        filesystem.invalidate_cache()
        found = {str(name): about for name, about in filesystem.find(top, detail=True).items()}
    if not found:
        raise SourceError(f"{path} does not exist, or there is no file below it: give an existing folder or file")
    root = top.rpartition("/")[0] if top in found else top
    named = {name[len(root) :].lstrip("/"): about for name, about in found.items()}
    return {name: _remote_stamp(about) for name, about in named.items() if not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    # Some clients put an object of no bytes where a folder is.
    return name.endswith("/") or any(part.startswith(".") for part in name.split("/"))


def _remote_stamp(about: Mapping[str, Any]) -> Stamp:
    etag = next((str(about[key]) for key in _ETAGS if about.get(key)), "")
    time = next((about[key] for key in _TIMES if about.get(key)), None)
    return Stamp(int(about.get("size") or 0), _nanoseconds(time), 0, etag.strip('"'))


def _nanoseconds(time: object) -> int:
    """Of a time as a date, as ISO text or as seconds; 0 for anything else."""
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return 0
    seconds = time.timestamp() if isinstance(time, datetime) else time
    return round(seconds * 1e6) * 1000 if isinstance(seconds, int | float) else 0


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        # A link to a folder above would otherwise be followed for ever.
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if not name.startswith(".")]
        if real not in seen:
            yield from ((folder, name) for name in names if not name.startswith("."))
        seen.add(real)


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
        yield _path_of(path, file)
        return
    with TemporaryFile() as copy, TemporaryDirectory() as folder:
        _fetch(path, file, copy, at_most)
        # The copy itself has no name: nobody's images stay where this process is killed. Its ending tells formats.
        place = Path(folder, PurePosixPath(file).name[-60:])
        place.symlink_to(f"/proc/{os.getpid()}/fd/{copy.fileno()}")
        yield place


def _path_of(path: str, file: str) -> Path:
    try:
        # Absolute, as another process may read it, which was started in another folder.
        place = Path(join(str(root_of(path).absolute()), file))
    except ValueError as error:
        raise SourceError(str(error)) from error
    if not place.exists():
        raise SourceError(
            f"{place} is not there: it has gone since the source was listed, or never was: ingest it anew"
        )
    if not place.is_file():
        raise SourceError("not a regular file (a pipe, a socket or a device)")
    return place


def _gone(place: object) -> str:
    return f"{place} is not there (it has gone since the source was listed, or never was): ingest it anew"


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
        raise SourceError(
            f"{uri} is not there: it has gone since the source was listed, or never was: ingest it anew"
        ) from error
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


def is_utf8(name: str) -> bool:
    """Whether a name of the file system is text; others can be stored in no listing."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def damage_explained() -> Iterator[None]:
    """A block in which whatever a reader of input files stumbles over becomes a SourceError with the reason."""
    try:
        yield
    except SourceError:
        raise
    except MemoryError as error:
        raise SourceError("damaged: it claims more bytes than it has, or it needs too much memory") from error
    except Exception as error:
        # Damaged input fails in many ways (struct, zlib, key, value errors, ...): each is this one file's reason.
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise SourceError(f"unreadable: damaged, truncated or of another format ({reason})") from error
