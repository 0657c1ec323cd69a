"""Small files and names under any URI: a plain local path, file://, memory://, or a bucket through fsspec.

Local writes are atomic (a temporary name, then a rename), as one put is on an object store.
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec

from scoreinv.errors import UserError
from scoreinv.spec import Json
from storage.errors import StoreError, StoreNotFound, full_disk_explained

_FILE_SCHEME = "file://"

_USUAL, _PRIVATE = 0o666, 0o660
"""Who may read and write a file, as far as the umask lets them."""


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
        filesystem, path = _filesystem(uri)
        return bytes(filesystem.cat_file(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreNotFound(f"there is no file {uri}") from error


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
            filesystem, path = _filesystem(uri)
            filesystem.pipe_file(path, content)


def create_bytes(uri: str, content: bytes) -> None:
    """Puts one private file where there is none yet, as ``write_bytes``; of several at once one succeeds.

    Raises:
        FileExistsError: if there is one.
    """
    if is_local(uri):
        _write_local(local_path(uri), content, _PRIVATE, is_new=True)
    else:
        filesystem, path = _filesystem(uri)
        filesystem.pipe_file(path, content, mode="create")


def _write_local(path: Path, content: bytes, mode: int, *, is_new: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(content)
            file.flush()
            # Without this a power cut can leave an empty file under the final name.
            os.fsync(file.fileno())
        if is_new:
            # A rename would replace what is there, a second name is refused.
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(uri: str) -> Any:
    """The parsed content of one JSON file.

    Raises:
        StoreNotFound: if it does not exist.
        StoreError: if it is not JSON.
    """
    content = read_bytes(uri)
    try:
        return json.loads(content)
    except ValueError as error:
        raise StoreError(f"{uri} is damaged: it is not JSON ({error}); remove it and run the command again") from error


def write_json(uri: str, value: Json | Mapping[str, Json], *, is_private: bool = False) -> None:
    """Puts one JSON file (sorted keys, one trailing newline), as ``write_bytes``."""
    content = json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"
    write_bytes(uri, content.encode(), is_private=is_private)


def exists(uri: str) -> bool:
    """Whether there is a file or a folder of this name."""
    if is_local(uri):
        return local_path(uri).exists()
    filesystem, path = _filesystem(uri)
    filesystem.invalidate_cache()
    return bool(filesystem.exists(path))


def list_names(uri: str) -> list[str]:
    """The names directly inside a folder, sorted, without unfinished temporary files; none if there is no folder."""
    if is_local(uri):
        folder = local_path(uri)
        names = os.listdir(folder) if folder.is_dir() else []
    else:
        names = _list_remote(uri)
    return sorted(name for name in names if not name.endswith(".partial"))


def _list_remote(uri: str) -> list[str]:
    filesystem, path = _filesystem(uri)
    # Another worker may have added files since this one listed the folder.
    filesystem.invalidate_cache()
    try:
        return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in filesystem.ls(path, detail=False)]
    except FileNotFoundError:
        return []


def delete(uri: str) -> None:
    """Removes one file; it is no error if it is gone already."""
    if is_local(uri):
        local_path(uri).unlink(missing_ok=True)
    elif exists(uri):
        filesystem, path = _filesystem(uri)
        filesystem.rm_file(path)


def _filesystem(uri: str) -> tuple[Any, str]:
    filesystem, path = fsspec.core.url_to_fs(uri)
    return filesystem, str(path)
