"""Which processes compute: this one, Dask workers on this machine, jobs of SLURM, pods of Kubernetes, or a Dask cluster
that runs already.

Every worker has one slot and one thread, so that a worker runs one shard at a time and each GPU serves
one worker. Workers that are started by hand need the slot too:

    CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1 --resources SLOT=1

Workers on this machine and of SLURM start when the first shards arrive, never more than there are shards, are replaced
when they end, and end with the process that started them, however that ends.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, Literal

import dask
from distributed import Client, Scheduler, SpecCluster
from distributed.diagnostics.plugin import SchedulerPlugin
from pydantic import Field

from scoreinv.spec import Spec
from tasks.running.kubernetes import KubernetesWorkers as KubernetesWorkers
from tasks.running.kubernetes import pods
from tasks.running.local import LocalWorkers as LocalWorkers
from tasks.running.local import local_kind, log_level
from tasks.running.slurm import SlurmWorkers as SlurmWorkers
from tasks.running.slurm import certificate_files, slurm_kind
from tasks.running.stalls import tried_again
from tasks.running.supervision import Kind, Supervisor
from tasks.running.tls import Certificates as Certificates
from tasks.running.tls import encrypted
from tasks.workers.serve import SLOT as SLOT

ALLOWED_DEATHS = 1
"""So many workers may die under one shard; at the next death it is suspected of killing them."""

MARGIN_SECONDS = 60.0
"""After the last worker that could have come, whoever waits for one gives up."""

CONNECT_SECONDS = 10.0
"""A scheduler that is there answers sooner, also on a busy network."""

_NO_WORKERS = "scoreinv-no-workers"
"""Where a scheduler keeps the reason why none of its workers can start."""

_PATIENCE = "scoreinv-patience"
"""Where a scheduler keeps how many seconds its workers may take to come."""


class NoWorkers(ConnectionError):  # noqa: N818  (says what happened, as the errors of storage do)
    """None of the workers that were to be started can start; another try would end alike."""


class Inline(Spec):
    """This process, one shard after the other."""

    kind: Literal["inline"] = "inline"


class RemoteWorkers(Spec):
    """A Dask cluster that is running already."""

    kind: Literal["remote"] = "remote"
    address: str = Field(description="Of the scheduler, for example tcp://10.0.0.1:8786 or tls://10.0.0.1:8786.")
    tls: Certificates | None = Field(
        None, title="Certificates", description="What lets this side in, where the address begins with tls."
    )


OwnWorkers = LocalWorkers | SlurmWorkers | KubernetesWorkers
"""Workers that are started for a run and end with it."""

AnyCluster = Annotated[
    Inline | LocalWorkers | RemoteWorkers | SlurmWorkers | KubernetesWorkers, Field(discriminator="kind")
]


@contextmanager
def connect(cluster: OwnWorkers | RemoteWorkers) -> Iterator[Client]:
    """A client of the cluster; workers that were started here end with the block.

    Raises:
        ConnectionError: if nothing answers at the address, or the certificates do not fit.
        MissingPackage: if the kind of cluster needs one that is not installed.
    """
    with kept_running(cluster) as running, _quiet(), _client(running) as client:
        yield client


@contextmanager
def kept_running(cluster: AnyCluster, *, n_early: int = 0) -> Iterator[Any]:
    """The same workers for everything in the block: those of a run under an address, others as they are.

    This costs a scheduler, which is part of this process; workers start when there is work, but ``n_early`` of those on
    this machine at once. On Kubernetes all of it runs there, and starts with the block.
    """
    if isinstance(cluster, LocalWorkers):
        with (
            encrypted(cluster.tls) as security,
            _supervised(cluster, partial(local_kind, cluster, security), n_early=n_early) as running,
        ):
            yield running
    elif isinstance(cluster, SlurmWorkers):
        with (
            encrypted(cluster.tls) as security,
            certificate_files(security, cluster.folder) as files,
            _supervised(cluster, partial(slurm_kind, cluster, files)) as running,
        ):
            yield running
    elif isinstance(cluster, KubernetesWorkers):
        with pods(cluster) as address:
            running = RemoteWorkers(address=address)
            with _client(running) as client:
                client.set_metadata([_PATIENCE], 60 * cluster.patience_minutes)
            yield running
    else:
        yield cluster


@contextmanager
def _supervised(
    cluster: LocalWorkers | SlurmWorkers, kind_for: Callable[[Scheduler], Kind], *, n_early: int = 0
) -> Iterator[RemoteWorkers]:
    """A scheduler in this process, and workers that come when there is work and are replaced when they end."""
    supervisor = Supervisor()
    supervisor.want(min(n_early, cluster.count()))
    plugins = [_Demand(supervisor, cluster.count())]
    with _quiet(), _scheduler(cluster.scheduler_options() | {"plugins": plugins}) as running:
        kind = kind_for(running.scheduler)

        def tell(key: str, value: Any) -> None:
            running.loop.add_callback(partial(running.scheduler.set_metadata, keys=[key], value=value))

        # The supervisor gives up before, with a reason.
        tell(_PATIENCE, kind.start_seconds + MARGIN_SECONDS)
        with supervisor.looking_after(kind, partial(tell, _NO_WORKERS)):
            yield RemoteWorkers(address=running.scheduler_address)


def _scheduler(options: dict[str, Any]) -> SpecCluster:
    options |= {"dashboard": False, "dashboard_address": "127.0.0.1:0", "allowed_failures": ALLOWED_DEATHS}
    # It makes a folder of its own, for what this cluster never uses: better gone at once than left behind by a kill.
    with (
        tempfile.TemporaryDirectory(prefix="scoreinv-dask-", ignore_cleanup_errors=True) as unused,
        dask.config.set({"temporary-directory": unused}),
    ):
        return tried_again(lambda: SpecCluster(workers={}, scheduler={"cls": Scheduler, "options": options}))


def require_workers(client: Client) -> None:
    """Raise if none of the workers that were started for this client's scheduler can start.

    Raises:
        NoWorkers: with the last words of one.
    """
    if reason := client.get_metadata([_NO_WORKERS], ""):
        raise NoWorkers(reason)


def patience_of(client: Client, seconds: float) -> float:
    """How many seconds the scheduler's workers may take to come: so many, unless it knows better."""
    return float(client.get_metadata([_PATIENCE], seconds))


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
        logger.setLevel(log_level())
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.setLevel(before)


def _client(cluster: RemoteWorkers) -> Client:
    security = cluster.tls.security() if cluster.tls else None
    try:
        return tried_again(
            lambda: Client(cluster.address, timeout=CONNECT_SECONDS, set_as_default=False, security=security)
        )
    except (OSError, TimeoutError, ValueError, TypeError, AssertionError) as error:  # Dask asserts what it is told
        raise ConnectionError(
            f"no Dask scheduler answers at {cluster.address} ({error}): "
            "start one with `dask scheduler`, or use cluster.kind=local"
        ) from error


class _Demand(SchedulerPlugin):  # type: ignore[misc]
    """Asks for as many workers as there are tasks, up to a limit."""

    def __init__(self, supervisor: Supervisor, n_workers: int) -> None:
        self.supervisor = supervisor
        self.n_workers = n_workers

    def update_graph(self, scheduler: Scheduler, **_: Any) -> None:
        self.supervisor.want(min(self.n_workers, len(scheduler.tasks)))
