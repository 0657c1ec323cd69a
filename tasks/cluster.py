"""Which processes compute: this one, Dask workers on this machine, or a Dask cluster somewhere else.

Every worker has one slot and one thread, so that a worker runs one shard at a time and each GPU serves
one worker. Workers that are started by hand need the slot too:

    CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1 --resources SLOT=1

Workers on this machine start when the first shards arrive, never more than there are shards, and end
with the process that started them, however that ends.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import dask
import torch
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from pydantic import Field

from scoreinv.spec import Spec
from tasks.workers.setup import KEEP_MEMORY

SLOT = "SLOT"
"""The Dask resource of which every worker has one."""

ALLOWED_DEATHS = 1
"""So many workers may die under one shard; at the next death it is suspected of killing them."""


CONNECT_SECONDS = 10.0
"""A scheduler that is there answers sooner, also on a busy network."""


class Inline(Spec):
    """This process, one shard after the other."""

    kind: Literal["inline"] = "inline"


class LocalWorkers(Spec):
    """Dask workers on this machine, one process each; worker i sees one GPU, the i-th, in turns."""

    kind: Literal["local"] = "local"
    n_workers: int = Field(2, ge=1, le=1024, description="Worker processes; one per GPU where there are GPUs.")
    n_threads: int = Field(1, ge=1, description="CPU threads of each worker's numerical libraries.")


class RemoteWorkers(Spec):
    """A Dask cluster that is running already."""

    kind: Literal["remote"] = "remote"
    address: str = Field(description="Of the scheduler, for example tcp://10.0.0.1:8786.")


AnyCluster = Annotated[Inline | LocalWorkers | RemoteWorkers, Field(discriminator="kind")]


@contextmanager
def connect(cluster: LocalWorkers | RemoteWorkers) -> Iterator[Client]:
    """A client of the cluster; workers that were started here end with the block.

    Raises:
        ConnectionError: if nothing answers at the address.
    """
    with kept_running(cluster) as running, _quiet(), _client(running.address) as client:
        yield client


@contextmanager
def kept_running(cluster: AnyCluster) -> Iterator[Any]:
    """The same workers for everything in the block: local ones under an address, others as they are.

    This costs a scheduler, which is part of this process; workers start when there is work.
    """
    if not isinstance(cluster, LocalWorkers):
        yield cluster
        return
    with (
        _quiet(),
        tempfile.TemporaryDirectory(prefix="scoreinv-dask-", ignore_cleanup_errors=True) as folder,
        _OnDemandWorkers(cluster, folder) as workers,
    ):
        yield RemoteWorkers(address=workers.scheduler_address)


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which Dask says nothing, here and in the workers that start in it: ``map_shards`` tells what fails."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    level = logging.ERROR if os.environ.get("SCOREINV_TRACEBACK") else logging.CRITICAL
    for logger in loggers:
        logger.setLevel(level)
    # What glibc and Dask's logging read when a worker process starts; the workers' own ``env`` would come too late.
    environment = KEEP_MEMORY | {"DASK_LOGGING__DISTRIBUTED": logging.getLevelName(level).lower()}
    with dask.config.set({f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in environment.items()}):
        try:
            yield
        finally:
            for logger, before in zip(loggers, levels, strict=True):
                logger.setLevel(before)


def _client(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {address} ({error}): "
            "start one with `dask scheduler`, or use cluster.kind=local"
        ) from error


class _OnDemandWorkers(SpecCluster):  # type: ignore[misc]
    """A scheduler in this process; worker processes follow when tasks arrive."""

    def __init__(self, cluster: LocalWorkers, folder: str) -> None:
        self._cluster = cluster
        self._folder = folder
        options = {
            "host": "127.0.0.1",
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            "allowed_failures": ALLOWED_DEATHS,
            "plugins": [_StartWorkers(self, cluster.n_workers)],
        }
        super().__init__(scheduler={"cls": Scheduler, "options": options}, silence_logs=False)

    def new_worker_spec(self) -> dict[int, dict[str, Any]]:
        """The next worker, by its number."""
        index = len(self.worker_spec)
        options = {
            "nthreads": 1,
            "resources": {SLOT: 1},
            "env": _environment(index, self._cluster.n_threads),
            "preload": ["tasks.workers.setup"],
            "host": "127.0.0.1",
            "dashboard": False,
            "dashboard_address": "127.0.0.1:0",
            "local_directory": self._folder,
            # Arrays never pass through Dask, so its accounting would only pause workers that use what they need.
            "memory_limit": 0,
        }
        return {index: {"cls": Nanny, "options": options}}


class _StartWorkers(SchedulerPlugin):  # type: ignore[misc]
    """Starts as many workers as there are tasks, up to a limit."""

    def __init__(self, cluster: SpecCluster, n_workers: int) -> None:
        self.cluster = cluster
        self.n_workers = n_workers

    def update_graph(self, scheduler: Scheduler, **_: Any) -> None:
        wanted = min(self.n_workers, len(scheduler.tasks))
        if wanted > len(self.cluster.worker_spec):
            self.cluster.scale(wanted)


def _environment(index: int, n_threads: int) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
    gpus = _gpus()
    return threads | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]
