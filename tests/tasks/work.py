"""Work functions for tests; a worker imports them by name."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from scoreinv.errors import UserError
from scoreinv.spec import Spec
from storage.errors import full_disk_explained
from storage.shards import ArrayLayout, ShardedStore
from storage.uri import read_bytes
from tasks.running.shards import Report


class Job(Spec):
    """Where to write, where to leave a trace of each try, which shards go wrong how often, and how long each takes."""

    target: str
    traces: str
    failing: dict[int, int] = {}
    seconds: float = 0.0
    """How long a shard takes, until ``hurry``."""


def new_store(folder: Path, n: int = 6) -> tuple[Job, ShardedStore]:
    """A store of n shards of one number each, and the job that fills it."""
    traces = folder / "traces"
    traces.mkdir()
    store = ShardedStore.create(
        str(folder / "store"), n=n, shard_size=1, arrays={"x": ArrayLayout((1, 1))}, attrs={"what": "numbers"}
    )
    return Job(target=store.uri, traces=str(traces)), store


def tries(job: Job) -> dict[int, int]:
    """How often each shard was tried."""
    indices = [int(path.name.split("-")[0]) for path in Path(job.traces).iterdir()]
    return {index: indices.count(index) for index in sorted(set(indices))}


def who(job: Job) -> list[int]:
    """The processes that tried shards, in the order in which they came."""
    return list(dict.fromkeys(pid for _, pid in _traces(job)))


def begun(job: Job, pid: int) -> list[int]:
    """The shards that a process tried, in the order in which it did."""
    return [index for index, theirs in _traces(job) if theirs == pid]


def _traces(job: Job) -> list[tuple[int, int]]:
    """Shard and process of every try, in their order."""
    traces = sorted(Path(job.traces).iterdir(), key=lambda path: path.stat().st_mtime_ns)
    names = [path.name.split("-") for path in traces]
    return [(int(index), int(pid)) for index, _, pid in names]


def fill(job: Job, index: int, report: Report) -> None:
    """Write the shard's number; fail as often as the job says, in a way that another try may mend."""
    attempt = _trace(job, index)
    report(0.5)
    _linger(job)
    if attempt < job.failing.get(index, 0):
        raise OSError(f"try {attempt} of shard {index} went wrong")
    _write(job, index)


def hurry(job: Job) -> None:
    """Let shards take no more time."""
    Path(f"{job.target}-hurry").touch()


def _linger(job: Job) -> None:
    end = time.monotonic() + job.seconds
    while time.monotonic() < end and not Path(f"{job.target}-hurry").exists():
        time.sleep(0.05)


def refuse(job: Job, index: int, report: Report) -> None:
    """Fail for good where the job says so."""
    _trace(job, index)
    if index in job.failing:
        raise UserError("this shard cannot be used")
    _write(job, index)


def multiply(job: Job, index: int, report: Report) -> None:
    """Make the mistake of a programmer where the job says so."""
    _trace(job, index)
    if index in job.failing:
        np.zeros((2, 3)) @ np.zeros((2, 3))
    _write(job, index)


def look_in_vain(job: Job, index: int, report: Report) -> None:
    """Read a file that is not there."""
    _trace(job, index)
    read_bytes(f"{job.target}/nothing")


def fill_disk(job: Job, index: int, report: Report) -> None:
    """Write to a device that is always full."""
    _trace(job, index)
    with full_disk_explained(job.target), open("/dev/full", "wb") as file:
        file.write(b"x")
        file.flush()


def die(job: Job, index: int, report: Report) -> None:
    """Take the process along where the job says so."""
    _trace(job, index)
    if index in job.failing:
        os.kill(os.getpid(), signal.SIGKILL)
    _write(job, index)


def dawdle(job: Job, index: int, report: Report) -> None:
    """Report for a minute."""
    _trace(job, index)
    for second in range(600):
        time.sleep(0.1)
        report(second / 600)
    _write(job, index)


def wait_for_the_gate(job: Job, index: int, report: Report) -> None:
    """Write the shard's number as soon as there is a file "gate" beside the traces."""
    _trace(job, index)
    while not Path(job.traces).with_name("gate").exists():
        time.sleep(0.05)
    _write(job, index)


def _trace(job: Job, index: int) -> int:
    """Leave a file for this try; how many tries came before."""
    before = tries(job).get(index, 0)
    (Path(job.traces) / f"{index}-{before}-{os.getpid()}").touch()
    return before


def _write(job: Job, index: int) -> None:
    store = ShardedStore.open(job.target, finished=False)
    store.write(store.plan()[index], {"x": np.full((1, 1, 1), index, np.float32)}, record={})
