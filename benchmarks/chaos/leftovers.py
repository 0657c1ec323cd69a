"""What is left of a round: processes that were started in it, and temporary files."""

import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.chaos.commands import ROUND

END_SECONDS = 20.0
"""A process whose parent was killed looks once a second, and may take as long as this to end in order."""

CACHE = "torchinductor_"
"""How a folder is called that torch keeps for good, one for each user."""


def processes_left(mark: str) -> list[str]:
    """Of the processes of a round those that do not end by themselves; they are ended then."""
    end = time.monotonic() + END_SECONDS
    while (alive := _alive(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    names = [f"process {' '.join(one.info['cmdline'] or [])[:200]}" for one in alive]
    for one in alive:
        with suppress(psutil.Error):
            one.kill()
    return names


def _alive(mark: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if one.environ().get(ROUND) == mark and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def files_left(temporary: Path, workspace: Path) -> list[str]:
    """Temporary files and folders of a round, and files of the workspace that never got their names."""
    own = (path for path in temporary.iterdir() if not path.name.startswith(CACHE))
    found = [*own, *workspace.rglob("*.partial")]
    return [f"file {path.relative_to(path.parents[1])}" for path in found]
