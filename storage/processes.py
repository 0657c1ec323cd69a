"""Processes of this machine: whether one still lives, and what tells this machine from others."""

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from scoreinv.spec import digest_of


def started_at(pid: int) -> float | None:
    """When a process of this machine was started, by a clock that nobody sets; None if it has ended, or is hidden."""
    if not Path("/proc/self/stat").exists():
        import psutil  # every command imports this module

        with suppress(psutil.Error):
            process = psutil.Process(pid)
            return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
        return None
    fields = _proc_fields(pid)
    return float(fields[19]) / os.sysconf("SC_CLK_TCK") if fields and fields[0] not in "ZX" else None


def is_hidden(pid: int) -> bool:
    """Whether there is a process of somebody else, of whom the system tells nothing more."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not _proc_fields(pid)
    except ProcessLookupError:
        return False
    return False


def _proc_fields(pid: int) -> list[str]:
    """What Linux says of a process, after its name: the state is at 0, the start in ticks since the boot at 19."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def this_machine() -> str:
    """A name for the table of processes that this process is in."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        # Containers may share the name of their host, and machines a name; neither shares both of these.
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def own_mark() -> str:
    """What a file's name says of the process that writes it."""
    return f"{os.getpid()}-{_mark_of_machine()}"


def is_of_the_dead(mark: str) -> bool:
    """Whether a mark is of a process of this machine that has ended."""
    pid, _, machine = mark.partition("-")
    return (
        pid.isdecimal() and machine == _mark_of_machine() and started_at(int(pid)) is None and not is_hidden(int(pid))
    )


@cache
def _mark_of_machine() -> str:
    return digest_of(this_machine())[:8]
