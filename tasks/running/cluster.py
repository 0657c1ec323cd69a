"""Which processes compute: this one, Dask workers on this machine, or a Dask cluster somewhere else.

Every worker has one slot and one thread, so that a worker runs one shard at a time and each GPU serves
one worker. Workers that are started by hand need the slot too:

    CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1 --resources SLOT=1

Workers on this machine start when the first shards arrive, never more than there are shards, are replaced when they
die, and end with the process that started them, however that ends.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal

import dask
import torch
from distributed import Client, Scheduler, SpecCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from pydantic import Field

from scoreinv.spec import Spec
from tasks.running.processes import Child
from tasks.running.supervision import Supervisor
from tasks.workers.serve import SLOT as SLOT
from tasks.workers.setup import KEEP_MEMORY

ALLOWED_DEATHS = 1
"""So many workers may die under one shard; at the next death it is suspected of killing them."""


CONNECT_SECONDS = 10.0
"""A scheduler that is there answers sooner, also on a busy network."""

_NO_WORKERS = "scoreinv-no-workers"
"""Where a scheduler keeps the reason why none of its workers can start."""


class NoWorkers(ConnectionError):  # noqa: N818  (says what happened, as the errors of storage do)
    """No worker process of this machine can start; another try would end alike."""


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
def kept_running(cluster: AnyCluster, *, n_early: int = 0) -> Iterator[Any]:
    """The same workers for everything in the block: local ones under an address, others as they are.

    This costs a scheduler, which is part of this process; workers start when there is work, but ``n_early`` at once.
    """
    if not isinstance(cluster, LocalWorkers):
        yield cluster
        return
    supervisor = Supervisor(lambda index, folder: _launch(cluster, index, folder, address))
    supervisor.want(min(n_early, cluster.n_workers))
    options = {
        "host": "127.0.0.1",
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
        "allowed_failures": ALLOWED_DEATHS,
        "plugins": [_Demand(supervisor, cluster.n_workers)],
    }
    with _quiet(), _scheduler(options) as running:
        address = running.scheduler_address

        def give_up(reason: str) -> None:
            running.loop.add_callback(partial(running.scheduler.set_metadata, keys=[_NO_WORKERS], value=reason))

        with supervisor.looking_after(give_up):
            yield RemoteWorkers(address=address)


def _scheduler(options: dict[str, Any]) -> SpecCluster:
    # It makes a folder of its own, for what this cluster never uses: better gone at once than left behind by a kill.
    with (
        tempfile.TemporaryDirectory(prefix="scoreinv-dask-", ignore_cleanup_errors=True) as unused,
        dask.config.set({"temporary-directory": unused}),
    ):
        return SpecCluster(workers={}, scheduler={"cls": Scheduler, "options": options})


def require_workers(client: Client) -> None:
    """Raise if none of the workers that were started for this client's scheduler can start.

    Raises:
        NoWorkers: with the last words of one.
    """
    if reason := client.get_metadata([_NO_WORKERS], ""):
        raise NoWorkers(reason)


def wait_for_workers(client: Client, n_workers: int, seconds: float) -> None:
    """Wait until so many workers are ready.

    Raises:
        NoWorkers: if none can start.
        ConnectionError: if there are fewer after so long.
    """
    deadline = time.monotonic() + seconds
    while len(client.nthreads()) < n_workers:
        require_workers(client)
        if time.monotonic() > deadline:
            n_ready = len(client.nthreads())
            raise ConnectionError(f"only {n_ready} of {n_workers} workers were ready after {seconds:.0f} s: use fewer")
        time.sleep(0.1)


@contextmanager
def _quiet() -> Iterator[None]:
    """A block in which Dask says nothing: ``map_shards`` tells what fails."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(_log_level())
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


def _log_level() -> str:
    return "ERROR" if os.environ.get("SCOREINV_TRACEBACK") else "CRITICAL"


def _client(address: str) -> Client:
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {address} ({error}): "
            "start one with `dask scheduler`, or use cluster.kind=local"
        ) from error


class _Demand(SchedulerPlugin):  # type: ignore[misc]
    """Asks for as many workers as there are tasks, up to a limit."""

    def __init__(self, supervisor: Supervisor, n_workers: int) -> None:
        self.supervisor = supervisor
        self.n_workers = n_workers

    def update_graph(self, scheduler: Scheduler, **_: Any) -> None:
        self.supervisor.want(min(self.n_workers, len(scheduler.tasks)))


def _launch(cluster: LocalWorkers, index: int, folder: str, address: str) -> Child:
    environment = KEEP_MEMORY | {"DASK_LOGGING__DISTRIBUTED": _log_level().lower()}
    # Of these a user's own values go before.
    environment = {name: os.environ.get(name, value) for name, value in environment.items()}
    environment |= _environment(index, cluster.n_threads)
    return Child("tasks.workers.serve", address, str(index), folder, environment=environment, folder=folder)


def _environment(index: int, n_threads: int) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads)}
    gpus = _gpus()
    return threads | ({"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {})


def _gpus() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names[: torch.cuda.device_count()]
