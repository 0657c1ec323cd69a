"""Run a training under torchrun as a generator of the lines it prints; it never outlives its consumer."""

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator
from pathlib import Path

from scoreinv.errors import UserError
from tasks.running.processes import start, stop
from tasks.workers.setup import KEEP_MEMORY
from tasks.workers.training.launch import fault_path, reason_path
from tasks.workers.training.train_job import TrainJob

GRACE_SECONDS = 20.0
"""How long a training may take to end before it is killed."""


def torchrun(job: TrainJob, n_processes: int) -> Generator[str, None, None]:
    """Yield the lines that a training prints; ending the loop early ends the training.

    Raises:
        UserError: if it fails by something that can be mended; the message is that of the process that failed first.
        ChildProcessError: if it was killed.
        RuntimeError: if it fails by a fault of the program; with the traceback of that process.
    """
    with tempfile.TemporaryDirectory(prefix="scoreinv-train-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "job.json"
        path.write_text(job.model_dump_json())
        process = _start(path, n_processes)
        last = deque[str](maxlen=5)
        try:
            for line in process.stdout or ():
                last.append(line.rstrip())
                yield last[-1]
            code = process.wait()
        finally:
            stop([process], GRACE_SECONDS)
        if code:
            raise _failure(path, code, last)


def _start(job: Path, n_processes: int) -> "subprocess.Popen[str]":
    # Gloo looks up this machine's name otherwise, which fails where no name server knows it.
    loopback = "lo" if sys.platform == "linux" else "lo0"
    defaults = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback, **KEEP_MEMORY}
    environment = {name: os.environ.get(name, value) for name, value in defaults.items()}
    arguments = ("group", str(job), str(n_processes))
    return start("tasks.workers.training.launch", *arguments, environment=environment, folder=str(job.parent))


def _failure(job: Path, code: int, last: deque[str]) -> Exception:
    if reason_path(job).exists():
        return UserError(f"the training failed: {reason_path(job).read_text()}")
    if fault_path(job).exists():
        return RuntimeError(f"the training failed:\n{fault_path(job).read_text()}")
    lines = [f"the training ended with exit code {code}, perhaps out of memory; its last lines:", *last]
    return ChildProcessError("\n".join(lines))
