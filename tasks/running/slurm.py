"""Dask workers as jobs of SLURM: dask-jobqueue writes the script of a job, sbatch takes it, the supervisor replaces
jobs that end.

A job whose run was killed ends by itself: its worker finds no scheduler.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast
from uuid import uuid4

from distributed import Scheduler, Security
from pydantic import Field

from scoreinv.errors import MissingPackage
from scoreinv.spec import Spec
from tasks.running.assignment import Assignment, pairs
from tasks.running.processes import IMPORTS_ALIKE, import_path, said
from tasks.running.supervision import Kind, Startable
from tasks.running.tls import worker_environment
from tasks.workers.setup import KEEP_MEMORY

ASK_SECONDS = 5.0
"""SLURM is asked at most so often which jobs there are: a command serves many users."""

DEATH_SECONDS = 60
"""A worker that finds no scheduler for so long ends, and its job with it."""

COMMAND_SECONDS = 60.0
"""SLURM's commands answer sooner, unless its controller is down."""


class SlurmWorkers(Spec):
    """Dask workers as jobs of SLURM, one each. The nodes share this machine's files and can reach it."""

    kind: Literal["slurm"] = "slurm"
    n_workers: int = Field(2, ge=1, le=1024, description="Jobs at most; they are sent when there is work for them.")
    queue: str = Field("", description="Partition; empty: SLURM's default.")
    account: str = Field("", description="Account that is charged; empty: your default.")
    cores: int = Field(4, ge=1, description="CPU cores of each job, all for numerical libraries.")
    memory: str = Field("16GiB", pattern=r"^\d+ *[MGT]i?B$", description="Memory of each job.")
    walltime: str = Field("24:00:00", description="Time limit of each job; one that reaches it is followed by another.")
    gpus: int = Field(
        1,
        ge=0,
        le=1,
        title="GPUs of each worker",
        description="One, or none. For a certain GPU: gpus=0 and --gres=gpu:a100:1 in job_extra.",
    )
    job_extra: tuple[str, ...] = Field((), description="More options of sbatch, such as --exclude=node7.")
    prologue: tuple[str, ...] = Field((), description="Shell lines before the worker starts, such as module load cuda.")
    environment: tuple[Assignment, ...] = Field((), description="NAME=value for workers, beyond this environment.")
    python: str = Field("", description="Python of the nodes, with scoreinv; empty: the path of this one.")
    interface: str = Field("", description="Network between here and the nodes, such as ib0; empty: the default.")
    port: int = Field(0, ge=0, le=65_535, description="Of the scheduler, where a firewall wants one; 0: a free one.")
    folder: str = Field(
        "scoreinv-slurm",
        min_length=1,
        description="For logs and certificates, seen by the nodes; a relative one counts from where the run starts.",
    )
    tls: bool = Field(
        True, title="Encrypted", description="Let nobody else on the network talk to scheduler and workers."
    )
    patience_hours: float = Field(24.0, gt=0, description="How long a job may wait in the queue.")

    def count(self) -> int:
        """How many workers there will be at most."""
        return self.n_workers

    def scheduler_options(self) -> dict[str, Any]:
        """Where the scheduler listens."""
        place = {"interface": self.interface} if self.interface else {}
        return {"port": self.port, "protocol": "tls://" if self.tls else "tcp://", **place}


def is_installed() -> bool:
    """Whether dask-jobqueue is there."""
    return find_spec("dask_jobqueue") is not None


def job_script(cluster: SlurmWorkers, address: str, name: str, security: Security | None = None) -> str:
    """What sbatch is given for one worker, which is called by its name.

    Raises:
        MissingPackage: without dask-jobqueue.
    """
    job = _job_class()(
        scheduler=address,
        name=name,
        job_name=name,
        queue=cluster.queue or None,
        account=cluster.account or None,
        walltime=cluster.walltime,
        cores=cluster.cores,
        memory=cluster.memory,
        processes=1,
        worker_command="tasks.workers.serve",
        worker_extra_args=[],
        interface=cluster.interface or None,
        death_timeout=DEATH_SECONDS,
        job_extra_directives=[*(["--gres=gpu:1"] if cluster.gpus else []), *cluster.job_extra],
        job_script_prologue=[*_exports(cluster, security), *cluster.prologue],
        log_directory=str(Path(cluster.folder).resolve()),
        # The worker takes the place of the shell, so that SLURM ends it.
        python=f"exec {cluster.python or sys.executable}",
    )
    return cast(str, job.job_script())


def _job_class() -> Any:
    # Importing it changes what Ctrl-C does, which Python allows in the main thread alone.
    before = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue.slurm import SLURMJob
    except ImportError as error:
        raise MissingPackage("cluster.kind=slurm needs dask-jobqueue: pip install 'scoreinv[slurm]'") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
    return SLURMJob


def _exports(cluster: SlurmWorkers, security: Security | None) -> list[str]:
    threads = {name: str(cluster.cores) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    imports = {} if cluster.python else IMPORTS_ALIKE | {"PYTHONPATH": import_path()}
    everything = {**KEEP_MEMORY, **threads, **imports, **worker_environment(security), **pairs(cluster.environment)}
    return [f"export {name}={shlex.quote(value)}" for name, value in everything.items()]


@contextmanager
def certificate_files(security: Security | None, folder: str) -> Iterator[Security | None]:
    """A block in which the certificates of workers lie in files below a folder, for their owner alone."""
    if security is None:
        yield None
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tls-", dir=Path(folder).resolve(), ignore_cleanup_errors=True) as place:
        parts = {"tls_ca_file": security.tls_ca_file, "tls_worker_cert": security.tls_worker_cert}
        parts["tls_worker_key"] = security.tls_worker_key
        for name, text in parts.items():
            (Path(place) / name).write_text(text)
        yield Security(require_encryption=True, **{name: str(Path(place) / name) for name in parts})


def slurm_kind(cluster: SlurmWorkers, files: Security | None, scheduler: Scheduler) -> Kind:
    """How jobs are sent for a scheduler, which lets in workers with these certificates.

    Raises:
        MissingPackage: without dask-jobqueue.
    """
    _job_class()
    jobs = Jobs(
        script=lambda name: job_script(cluster, scheduler.address, name, files),
        has_joined=lambda name: name in scheduler.aliases,
        folder=cluster.folder,
    )
    return Kind(jobs.submit, cancel, "as a job of SLURM", 3600 * cluster.patience_hours, "correct execution.cluster")


class Jobs:
    """The jobs of one run."""

    def __init__(self, script: Callable[[str], str], has_joined: Callable[[str], bool], folder: str) -> None:
        """``script(name)`` is that of a worker; ``has_joined(name)`` says whether the scheduler knows it."""
        self.script = script
        self.has_joined = has_joined
        self.folder = Path(folder).resolve()
        self.name = f"scoreinv-{uuid4().hex[:8]}"
        self.answered = 0.0
        """When SLURM last told the states of jobs."""
        self._n_sent = 0
        self._asked = 0.0
        self._states: Mapping[str, str] = {}

    def submit(self, index: int, folder: str) -> "Job":
        """Send the job of a place.

        Raises:
            OSError: with what sbatch says.
        """
        name = f"{self.name}-{index}-{self._n_sent}"
        self._n_sent += 1
        with tempfile.NamedTemporaryFile("w", suffix=".sh", dir=folder) as file:
            file.write(self.script(name))
            file.flush()
            answer = _command("sbatch", "--parsable", file.name)
        return Job(self, answer.strip().split(";")[0], name)

    def states(self) -> Mapping[str, str]:
        """The state of every job that waits or runs, with the reason, by its number; as it was a few seconds ago."""
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._asked = time.monotonic()
            # If it does not answer, its controller may be restarting: the jobs are as they were.
            with suppress(OSError):
                answer = _command("squeue", "--noheader", "--me", "--format=%i %T (%r)")
                self._states = dict(line.split(maxsplit=1) for line in answer.splitlines() if line.strip())
                self.answered = self._asked
        return self._states


class Job:
    """One job, which is one worker."""

    def __init__(self, jobs: Jobs, number: str, name: str) -> None:
        self.number = number
        self.name = name
        self.started = time.monotonic()
        self._jobs = jobs
        self._state = ""
        self._has_joined = False

    @property
    def is_ready(self) -> bool:
        """Whether it took its place, also if it has ended since."""
        self._has_joined = self._has_joined or self._jobs.has_joined(self.name)
        return self._has_joined

    @property
    def is_alive(self) -> bool:
        """Whether it waits or runs."""
        states = self._jobs.states()
        self._state = states.get(self.number, self._state)
        return self.number in states or self._jobs.answered < self.started

    def failure(self) -> str:
        """How far it got, and its last words."""
        # One for each stream.
        logs = {log: log.read_text(errors="replace") for log in sorted(self._jobs.folder.glob(f"{self.name}-*"))}
        if not logs:
            return f"job {self.number} did not begin; SLURM said last: {self._state or 'nothing'}"
        words = [line for text in logs.values() for line in text.splitlines() if line.strip()]
        return f"job {self.number} ended (log: {max(logs, key=lambda log: len(logs[log]))}){said(words)}"

    def kill(self) -> None:
        """Take it out of the queue."""
        cancel([self])


def cancel(jobs: Sequence[Startable]) -> None:
    """Take jobs out of the queue; those that have ended are left alone."""
    numbers = [job.number for job in jobs if isinstance(job, Job)]
    # If SLURM does not answer, they end by themselves: there is no scheduler any more.
    with suppress(OSError):
        _command("scancel", *numbers)


def _command(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, env=os.environ)
    except FileNotFoundError as error:
        raise OSError(f"there is no command {words[0]} here: run where jobs of SLURM are sent from") from error
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{words[0]} did not answer within {COMMAND_SECONDS:.0f} s") from error
    if done.returncode:
        raise OSError(done.stderr.strip() or f"{words[0]} ended with exit code {done.returncode}")
    return done.stdout
