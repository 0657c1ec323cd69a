"""Where every process of a training starts: it ends when the process that started it does.

    python -m tasks.workers.training.launch group JOB.json N      torchrun with N trainers
    python -m tasks.workers.training.launch trainer JOB.json      one of them

The flow starts the group and the group starts the trainers, so that whichever of them is killed, even by
SIGKILL, leaves nothing behind. A trainer that fails leaves the reason in JOB.error, or its traceback in JOB.fault.
"""

import os
import sys
import traceback
from pathlib import Path

from tasks.running.processes import PARENT, end_with_parent


def main(arguments: list[str]) -> None:
    """Become the group or one trainer."""
    # Before torch is imported, which takes seconds in which the parent may go.
    end_with_parent()
    os.environ[PARENT] = str(os.getpid())
    role, job, *rest = arguments
    if role == "group":
        run_group(job, int(rest[0]))
    else:
        run_trainer(job)


def run_group(job: str, n_processes: int) -> None:
    """Run trainers under torchrun until all have ended or one has failed."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # Without a folder for logs it makes one that nobody removes, though it writes none.
    logs = f"--log-dir={Path(job).parent}"
    options = ["--standalone", f"--nproc-per-node={n_processes}", "--max-restarts=0", logs]
    try:
        run(parse_args([*options, "-m", "tasks.workers.training.launch", "trainer", job]))  # type: ignore[no-untyped-call]
    except ChildFailedError:
        sys.exit(1)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)


def run_trainer(job: str) -> None:
    """Train; the first trainer that fails leaves its error as one text.

    A trainer that is done leaves at once: gloo's threads may outlive their process group, and one that still lets go
    of a tensor while the interpreter shuts down aborts the process (pytorch/pytorch#179291).
    """
    from tasks.running.processes import leave
    from tasks.workers.training.train import main as train

    try:
        train(job)
    except Exception as error:
        leave_reason(job, error)
        raise
    leave()


def leave_reason(job: str, error: Exception) -> None:
    """Write why a training failed, unless another of its processes, which failed earlier, has."""
    from tasks.running.mistakes import explain

    if reason_path(job).exists() or fault_path(job).exists():
        return
    message = explain(error)
    path = fault_path(job) if message is None else reason_path(job)
    try:
        with path.open("x") as file:
            file.write("".join(traceback.format_exception(error)) if message is None else message)
    except FileExistsError:
        pass


def reason_path(job: str | Path) -> Path:
    """Where a failed training leaves its reason, if it can be mended."""
    return Path(job).with_suffix(".error")


def fault_path(job: str | Path) -> Path:
    """Where a failed training leaves its traceback, if the fault is the program's."""
    return Path(job).with_suffix(".fault")


if __name__ == "__main__":
    main(sys.argv[1:])
