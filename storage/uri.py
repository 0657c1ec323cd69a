"""Small files and names under any URI: a plain local path, file://, memory://, or a bucket through fsspec.

Local writes are atomic (a temporary name, then a rename), as one put is on an object store: a file is replaced,
never removed first, so that a reader sees the old one or the new one.
"""

import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field

from scoreinv.errors import UserError
from scoreinv.spec import Json, digest_of
from storage.errors import StoreError, StoreHeld, StoreNotFound, full_disk_explained
from storage.processes import is_of_the_dead, own_mark
from storage.remote import one_request, remote

LOCK_SECONDS = 300.0
"""Whoever holds a lock writes one shard or a few small files: who waits longer waits for a process that hangs."""

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)

_FILE_SCHEME = "file://"

_USUAL, _PRIVATE = 0o666, 0o660
"""Who may read and write a file, as far as the umask lets them."""

_SEAL = "seal"

_PASSWORD = "://[^/@]*:[^/]*@"
"""In a URI: s3://key:secret@bucket. The container of abfs://container@account is no secret."""


def join(root: str, *parts: str) -> str:
    """``root/part/part``, where no part can lead out of the root.

    Raises:
        ValueError: if a part is empty, absolute, or holds "..", a backslash or a control character.
    """
    for part in parts:
        _check_part(part)
    head = root if root.endswith("://") or root == "/" else root.rstrip("/") + "/"
    return head + "/".join(parts) if parts else root


def _check_part(part: str) -> None:
    if "\\" in part or any(ord(letter) < 32 or ord(letter) == 127 for letter in part):
        raise UserError(f"the name {part!r} holds a backslash or a control character: use letters, digits, - _ . /")
    if any(segment in ("", ".", "..") for segment in part.split("/")):
        raise UserError(f"the name {part!r} must be relative, without empty, '.' or '..' segments")


def without_credentials(uri: str) -> str:
    """The URI itself.

    Raises:
        UserError: if a key or a password is in it, which recipes, logs and results would then show.
    """
    if masked(uri) != uri:
        raise UserError(
            f"{masked(uri)} holds a password or a key, which logs and results would show: take it "
            "out, and give it to whoever runs this by the environment (AWS_ACCESS_KEY_ID ...) or a file of its own"
        )
    return uri


def masked(text: str) -> str:
    """Text without the passwords and keys of the URIs in it."""
    return re.sub(_PASSWORD, "://***@", text)


Place = Annotated[str, AfterValidator(without_credentials), Field(json_schema_extra={"not": {"pattern": _PASSWORD}})]
"""A path or URI as an option. The schema says it too, so that a Prefect server refuses it before it is kept."""


def is_local(uri: str) -> bool:
    """Whether the URI is a path on this machine's file system."""
    return "://" not in uri or uri.startswith(_FILE_SCHEME)


def is_in_memory(uri: str) -> bool:
    """Whether the URI is in the memory of this process, where no other process sees it."""
    return "memory://" in uri


def local_path(uri: str) -> Path:
    """The path of a local URI.

    Raises:
        ValueError: if the URI is not local.
    """
    if not is_local(uri):
        raise UserError(f"{uri} is not on this machine: a local path was wanted")
    return Path(uri.removeprefix(_FILE_SCHEME)).expanduser()


def read_bytes(uri: str) -> bytes:
    """The whole content of one file.

    Raises:
        StoreNotFound: if it does not exist.
    """
    try:
        if is_local(uri):
            return local_path(uri).read_bytes()
        with remote(uri) as (filesystem, path):
            return bytes(filesystem.cat_file(path, **one_request(filesystem)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreNotFound(f"there is no file {uri}") from error


def read_or_none(uri: str) -> bytes | None:
    """The content of one file; None if there is none. In a bucket this asks once, ``exists`` twice."""
    try:
        return read_bytes(uri)
    except StoreNotFound:
        return None


def read_many(uris: Sequence[str]) -> list[bytes | None]:
    """``read_or_none`` of files of one folder; from a bucket many at once."""
    if len(uris) < 2 or is_local(uris[0]):
        return [read_or_none(uri) for uri in uris]
    with remote(uris[0]) as (filesystem, first):
        folder = first.rpartition("/")[0]
        paths = [f"{folder}/{uri.rpartition('/')[2]}" for uri in uris]
        found = filesystem.cat(paths, on_error="return", **one_request(filesystem))
        for error in found.values():
            if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
                raise error
    return [found[path] if isinstance(found[path], bytes) else None for path in paths]


def read_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes ``start`` to ``stop`` of one file, fewer where it ends before.

    Raises:
        StoreNotFound: if it does not exist.
    """
    try:
        if is_local(uri):
            with local_path(uri).open("rb") as file:
                file.seek(start)
                return file.read(stop - start)
        with remote(uri) as (filesystem, path):
            return _remote_range(filesystem, path, start, stop)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreNotFound(f"there is no file {uri}") from error


def _remote_range(filesystem: Any, path: str, start: int, stop: int) -> bytes:
    try:
        return bytes(filesystem.cat_file(path, start=start, end=stop))
    except FileNotFoundError:
        raise
    except Exception:
        # Buckets refuse a range that begins where the file ends, each in its own words.
        filesystem.invalidate_cache()
        if int(filesystem.info(path)["size"]) > start:
            raise
        return b""


def write_bytes(uri: str, content: bytes, *, is_private: bool = False) -> None:
    """Puts one file, whole or not at all; folders above it are made.

    Args:
        is_private: on this machine's file system, only its owner may read the file, and the group if the umask lets it.

    Raises:
        StoreFull: if the disk is full.
    """
    with full_disk_explained(uri):
        if is_local(uri):
            _write_local(local_path(uri), content, _PRIVATE if is_private else _USUAL)
        else:
            with remote(uri) as (filesystem, path):
                filesystem.pipe_file(path, content)


def write_if_other(uri: str, content: bytes) -> None:
    """Puts one file as ``write_bytes``, unless it holds just that."""
    if read_or_none(uri) != content:
        write_bytes(uri, content)


def create_bytes(uri: str, content: bytes, *, is_private: bool = False) -> bool:
    """Puts one file, whole or not at all, unless there is one; whether it was put. Of several writers one wins.

    Raises:
        StoreFull: if the disk is full.
    """
    with full_disk_explained(uri):
        try:
            if is_local(uri):
                _write_local(local_path(uri), content, _PRIVATE if is_private else _USUAL, _put_new)
            else:
                _create_remote(uri, content)
        except FileExistsError:
            return False
    return True


def _create_remote(uri: str, content: bytes) -> None:
    with remote(uri) as (filesystem, path):
        try:
            filesystem.pipe_file(path, content, mode="create")
        except (OSError, NotImplementedError) as error:
            if isinstance(error, FileExistsError) or exists(uri):
                raise FileExistsError(uri) from error
            # There are buckets that know no conditions: of two that come in the same moment the last one wins there.
            filesystem.pipe_file(path, content)


def _write_local(path: Path, content: bytes, mode: int, put: Callable[[Path, Path], None] = os.replace) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{own_mark()}.{uuid4().hex}.partial")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
            file.flush()
            # Without this a power cut can leave an empty file under the final name.
            os.fsync(file.fileno())
        put(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _put_new(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # There are file systems without links: two that come in the same moment may both have put it then.
        if path.exists():
            raise FileExistsError(str(path)) from None
        temporary.replace(path)


def read_json(uri: str) -> Any:
    """The parsed content of one JSON file.

    Raises:
        StoreNotFound: if it does not exist.
        StoreError: if it is not JSON.
    """
    return _parsed(uri, read_bytes(uri))


def _parsed(uri: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise StoreError(f"{uri} is damaged: it is not JSON ({error})") from error


def write_json(uri: str, value: Json | Mapping[str, Json], *, is_private: bool = False) -> None:
    """Puts one JSON file (sorted keys, one trailing newline), as ``write_bytes``."""
    write_bytes(uri, json_bytes(value), is_private=is_private)


def json_bytes(value: Json | Mapping[str, Json]) -> bytes:
    """What ``write_json`` puts."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def sealed(value: Mapping[str, Json]) -> dict[str, Json]:
    """The mapping with a digest of itself, by which ``read_sealed`` knows that it is whole."""
    return {**value, _SEAL: digest_of(dict(value))}


def read_sealed(uri: str) -> dict[str, Any]:
    """A mapping that was written with its seal, without the seal.

    Raises:
        StoreNotFound: if it does not exist.
        StoreError: if it is not what was written.
    """
    return unsealed(uri, read_bytes(uri))


def unsealed(uri: str, content: bytes) -> dict[str, Any]:
    """What ``read_sealed`` makes of the content of a file; errors as there."""
    value = _parsed(uri, content)
    if not isinstance(value, dict) or value.pop(_SEAL, None) != digest_of(value):
        raise StoreError(f"{uri} is damaged: it does not hold what was written")
    return value


def exists(uri: str) -> bool:
    """Whether there is a file or a folder of this name."""
    if is_local(uri):
        return local_path(uri).exists()
    with remote(uri) as (filesystem, path):
        filesystem.invalidate_cache()
        return bool(filesystem.exists(path))


def size_of(uri: str) -> int | None:
    """Bytes of one file; None if there is none."""
    try:
        if is_local(uri):
            return _size_or_none(local_path(uri))
        with remote(uri) as (filesystem, path):
            filesystem.invalidate_cache()
            return int(filesystem.info(path)["size"])
    except (FileNotFoundError, NotADirectoryError):
        return None


def sizes_below(uri: str) -> dict[str, int]:
    """Bytes of every file below a folder, by its name within it; none if there is no folder."""
    if is_local(uri):
        root = local_path(uri)
        paths = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
        sizes = {path.relative_to(root).as_posix(): _size_or_none(path) for path in paths}
        return {name: size for name, size in sizes.items() if size is not None}
    with remote(uri) as (filesystem, path):
        filesystem.invalidate_cache()
        found = filesystem.find(path, detail=True)
    return {str(name)[len(path) :].lstrip("/"): int(about["size"]) for name, about in found.items()}


def _size_or_none(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # The temporary file of another process, which has its final name by now.
        return None


def list_names(uri: str) -> list[str]:
    """The names directly inside a folder, sorted, without unfinished temporary files; none if there is no folder."""
    if is_local(uri):
        folder = local_path(uri)
        names = os.listdir(folder) if folder.is_dir() else []
    else:
        names = _list_remote(uri)
    return sorted(name for name in names if not name.endswith(".partial"))


def _list_remote(uri: str) -> list[str]:
    try:
        with remote(uri) as (filesystem, path):
            # Another worker may have added files since this one listed the folder.
            filesystem.invalidate_cache()
            return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in filesystem.ls(path, detail=False)]
    except FileNotFoundError:
        return []


def delete(uri: str) -> None:
    """Removes one file; it is no error if it is gone already."""
    if is_local(uri):
        local_path(uri).unlink(missing_ok=True)
        return
    with remote(uri) as (filesystem, path), suppress(FileNotFoundError):
        filesystem.rm_file(path)


def remove_unfinished(uri: str) -> None:
    """Removes what processes of this machine that were killed left under temporary names below a local folder."""
    if is_local(uri):
        for name in sizes_below(uri):
            parts = name.rsplit(".", 3)
            if parts[-1] == "partial" and is_of_the_dead(parts[1]):
                delete(join(uri, name))


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """A block that one process at a time is in, of all that name this folder; the system frees it when one dies.

    Only on file systems: a bucket has no locks, and the last writer wins.

    Raises:
        StoreHeld: if another process does not leave for minutes.
    """
    if not is_local(uri):
        yield
        return
    path = local_path(uri) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=LOCK_SECONDS)
    try:
        lock.acquire(poll_interval=0.01)
    except Timeout as error:
        raise StoreHeld(
            f"another process has been writing into {uri} for {LOCK_SECONDS:.0f} s and does not go on: "
            f"end it (`fuser {path}` names it), then run the same command again"
        ) from error
    except OSError as error:
        # There are file systems without locks: as in a bucket, the last writer wins.
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()
