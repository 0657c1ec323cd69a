"""Folders of input files, on this machine or in a bucket."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from scoreinv.shipped import examples_folder
from storage.errors import SourceError
from storage.remote import remote
from storage.uri import is_local, join, local_path

SHIPPED = "shipped:"
"""A path that begins so lies in the folder of example slices that comes with the package, as shipped:ct."""


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
        listed = filesystem.find(top, detail=True)
        # Of a single file adlfs tells no more than its name.
        about = listed if isinstance(listed, dict) else {name: filesystem.info(name) for name in listed}
        found = {str(name): one for name, one in about.items()}
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


def path_of(path: str, file: str) -> Path:
    """The path of one of the files of a source on this machine.

    Raises:
        SourceError: if the name would lead out of the source, or the file has gone or is none.
    """
    try:
        # Absolute, as another process may read it, which was started in another folder.
        place = Path(join(str(root_of(path).absolute()), file))
    except ValueError as error:
        raise SourceError(str(error)) from error
    if not place.exists():
        raise SourceError(gone(place))
    if not place.is_file():
        raise SourceError("not a regular file (a pipe, a socket or a device)")
    return place


def gone(place: object) -> str:
    """Why a file that was listed cannot be read."""
    return f"{place} is not there (it has gone since the source was listed, or never was): ingest it anew"


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
