"""An array that is too large for the memory of every process: once per machine in a file that all of them map.

Pages of the file lie in the machine's page cache, of which there is one, and are dropped where memory is short. The
file is named by its content, so whoever finds it uses it as it is.
"""

import getpass
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from filelock import FileLock

from storage.errors import full_disk_explained


def cache_folder(folder: str) -> Path:
    """The folder for such files, made where it is not there, for its owner alone; empty: that for temporary files."""
    path = Path(folder) if folder else Path(tempfile.gettempdir()) / f"scoreinv-{getpass.getuser()}"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def mapped(path: Path, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> np.ndarray:
    """The array in a file, float32 and read-only; who comes first writes it, the others wait.

    Args:
        path: of the file; its name must follow from its content.
        shape: of the array.
        parts: its parts along the first axis, in order; read only by who writes.

    Raises:
        StoreFull: if the disk is full.
        ValueError: if the parts are not the array.
    """
    with FileLock(f"{path}.lock"):
        if not path.exists():
            partial = path.with_suffix(".part")
            with full_disk_explained(str(path)), partial.open("wb") as file:
                for part in parts:
                    file.write(np.ascontiguousarray(part, np.float32).data)
            os.replace(partial, path)
        return np.memmap(path, np.float32, mode="r", shape=shape)


def remove_mapped(path: Path) -> None:
    """Remove the file; who has mapped it keeps it until the end."""
    with FileLock(f"{path}.lock"):
        path.unlink(missing_ok=True)
