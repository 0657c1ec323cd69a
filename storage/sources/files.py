"""Folders of input files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scoreinv.shipped import examples_folder
from storage.errors import SourceError
from storage.uri import join, local_path

SHIPPED = "shipped:"
"""A path that begins so lies in the folder of example slices that comes with the package, as shipped:ct."""


def root_of(path: str) -> Path:
    """The folder that the names of a source's files are relative to: the path, or the folder of a single file.

    Raises:
        SourceError: if the path does not exist.
    """
    place = _place_of(path)
    if not place.exists():
        raise SourceError(f"{path} does not exist: give an existing folder or file")
    return place if place.is_dir() else place.parent


def _place_of(path: str) -> Path:
    if not path.startswith(SHIPPED):
        return local_path(path)
    try:
        return Path(join(str(examples_folder()), path.removeprefix(SHIPPED)))
    except ValueError as error:
        raise SourceError(f"{path} names no example slices: write {SHIPPED}ct or {SHIPPED}mri ({error})") from error


def files_below(path: str) -> list[str]:
    """Names of all files below a folder, or of the one file, relative to ``root_of(path)``, sorted; hidden ones not."""
    root = root_of(path)
    if not _place_of(path).is_dir():
        return [_place_of(path).name]
    return sorted(Path(folder, name).relative_to(root).as_posix() for folder, name in _walk(root))


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
    """The path of one of a source's files.

    Raises:
        SourceError: if the name is not UTF-8 or would lead out of the source, or the file has gone.
    """
    if not is_utf8(file):
        raise SourceError("its name is not UTF-8: rename it (convmv -r -f latin1 -t utf8 --notest mends whole folders)")
    try:
        # Absolute, as another process may read it, which was started in another folder.
        place = Path(join(str(root_of(path).absolute()), file))
    except ValueError as error:
        raise SourceError(str(error)) from error
    if not place.exists():
        raise SourceError(f"{place} has gone since the source was listed: ingest it anew")
    if not place.is_file():
        raise SourceError("not a regular file (a pipe, a socket or a device)")
    return place


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
