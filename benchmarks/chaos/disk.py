"""A disk that is full: a small file system where this machine lets us mount one, else writes that fail."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.chaos.bench import Bench

DISK_KIB = 16_384


@contextmanager
def small_disk(folder: Path, kib: int = DISK_KIB) -> Iterator[bool]:
    """A block in which a folder is a file system of its own; whether this machine let us."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    is_mounted = hasattr(os, "geteuid") and os.geteuid() == 0 and _succeeds(command)
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Disk(Bench):
    """Commands find a disk with little space, then each with a little more, and in the end with enough."""

    kind = "disk"

    def __init__(self, folder: Path) -> None:
        self.is_mounted = False
        super().__init__(folder)
        self.is_mounted = self.resources.enter_context(small_disk(self.place("").parent))

    def place(self, name: str) -> Path:
        return self.folder / "disk" / (name or "chaos")

    def disturb(self, chance: Random) -> None:
        ballast = self.place("ballast")
        for share in sorted(chance.random() for _ in range(chance.randint(1, 6))):
            if self.is_mounted:
                fill(ballast, round(share * self._kib_needed()))
                said = self.run()
                ballast.unlink()
            else:
                said = self.run(before=[partial(_fill_after, round(60 * share))])
            self.faults["disk full"] += said[0].how == "explained"

    def _kib_needed(self) -> int:
        calm = self.place("calm")
        return sum(1 + path.stat().st_blocks // 2 for path in calm.rglob("*") if path.is_file())


def fill(ballast: Path, kib_free: int) -> None:
    """Leave so much space on a disk."""
    about = os.statvfs(ballast.parent)
    n = max(0, about.f_bavail * about.f_frsize - 1024 * kib_free)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, n or 1)


def _fill_after(n_writes: int) -> None:
    """In this process so many files are written, then none."""
    left, sync = iter(range(n_writes)), os.fsync

    def full(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    os.fsync = full
