"""Dask workers as processes of this machine."""

import os
from collections.abc import Sequence
from typing import Any, Literal

import torch
from distributed import Scheduler, Security
from pydantic import Field

from scoreinv.spec import Spec
from tasks.running.processes import Child, stop
from tasks.running.supervision import START_SECONDS, Kind, Startable
from tasks.running.tls import worker_environment
from tasks.workers.setup import KEEP_MEMORY

N_WITHOUT_GPU = 2
"""Workers of a machine without a GPU, where nobody says how many."""


class LocalWorkers(Spec):
    """Dask workers on this machine, one process each; worker i sees one GPU, the i-th, in turns."""

    kind: Literal["local"] = "local"
    n_workers: int = Field(0, ge=0, le=1024, description="Worker processes. 0: one per GPU, or 2 on a machine without.")
    n_threads: int = Field(1, ge=1, description="CPU threads of each worker's numerical libraries.")
    tls: bool = Field(
        False,
        title="Encrypted",
        description="Let nobody else on this machine talk to scheduler and workers, by certificates made for the run.",
    )

    def count(self) -> int:
        """How many worker processes there will be at most."""
        return self.n_workers or len(gpus()) or N_WITHOUT_GPU

    def scheduler_options(self) -> dict[str, Any]:
        """Where the scheduler listens."""
        return {"host": "127.0.0.1", "protocol": "tls://" if self.tls else "tcp://"}


def gpus() -> list[str]:
    """The names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]


def local_kind(cluster: LocalWorkers, security: Security | None, scheduler: Scheduler) -> Kind:
    """How workers of this machine are started for a scheduler, which lets in those that show its certificates."""
    allowed = worker_environment(security)

    def launch(index: int, folder: str) -> Child:
        defaults = KEEP_MEMORY | {"DASK_LOGGING__DISTRIBUTED": log_level().lower()}
        # Of these a user's own values go before.
        environment = {name: os.environ.get(name, value) for name, value in defaults.items()}
        environment |= _device(index, cluster.n_threads) | allowed
        options = ("--name", str(index), "--host", "127.0.0.1", "--local-directory", folder)
        return Child("tasks.workers.serve", scheduler.address, *options, environment=environment, folder=folder)

    return Kind(launch, _stop, "on this machine", START_SECONDS, "SCOREINV_TRACEBACK=1 shows all it said")


def _stop(workers: Sequence[Startable]) -> None:
    stop([worker.process for worker in workers if isinstance(worker, Child)])


def _device(index: int, n_threads: int) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
    names = gpus()
    return threads | ({"CUDA_VISIBLE_DEVICES": names[index % len(names)]} if names else {})


def log_level() -> str:
    """What Dask may say: ``map_shards`` tells what fails."""
    return "ERROR" if os.environ.get("SCOREINV_TRACEBACK") else "CRITICAL"
