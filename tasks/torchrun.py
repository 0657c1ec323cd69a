"""Run a training under torchrun as a generator of the lines it prints; it never outlives its consumer."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator
from pathlib import Path

from scoreinv.errors import UserError
from tasks.workers.launch import PARENT, fault_path, reason_path
from tasks.workers.setup import KEEP_MEMORY
from tasks.workers.train import TrainJob

GRACE_SECONDS = 20.0
"""How long a training may take to end before it is killed."""


def torchrun(job: TrainJob, n_processes: int) -> Generator[str, None, None]:
    """Yield the lines that a training prints; ending the loop early ends the training.

    Raises:
        UserError: if it fails by something that can be mended; the message is that of the process that failed first.
        ChildProcessError: if it was killed.
        RuntimeError: if it fails by a fault of the program; with the traceback of that process.
    """
    with tempfile.TemporaryDirectory() as folder:
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
            _stop(process)
        if code:
            raise _failure(path, code, last)


def _start(job: Path, n_processes: int) -> "subprocess.Popen[str]":
    # Gloo looks up this machine's name otherwise, which fails where no name server knows it.
    loopback = "lo" if sys.platform == "linux" else "lo0"
    defaults = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback, **KEEP_MEMORY}
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.workers.launch", "group", str(job), str(n_processes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**defaults, **os.environ, "PYTHONUNBUFFERED": "1", PARENT: str(os.getpid())},
    )


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(job: Path, code: int, last: deque[str]) -> Exception:
    if reason_path(job).exists():
        return UserError(f"the training failed: {reason_path(job).read_text()}")
    if fault_path(job).exists():
        return RuntimeError(f"the training failed:\n{fault_path(job).read_text()}")
    lines = [f"the training ended with exit code {code}, perhaps out of memory; its last lines:", *last]
    return ChildProcessError("\n".join(lines))
