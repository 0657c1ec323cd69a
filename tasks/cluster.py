"""Which processes compute: this one, Dask workers on this machine, or a Dask cluster somewhere else.

Every worker has one slot and one thread, so that a worker runs one shard at a time and each GPU serves
one worker. Workers that are started by hand need the slot too:

    CUDA_VISIBLE_DEVICES=0 dask worker ADDRESS --nthreads 1 --resources SLOT=1
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from pydantic import Field

from scoreinv.spec import Spec

SLOT = "SLOT"
"""The Dask resource of which every worker has one."""


class Inline(Spec):
    """This process, one shard after the other."""

    kind: Literal["inline"] = "inline"


class LocalWorkers(Spec):
    """Dask workers on this machine, one process each; on GPUs, worker i sees GPU i alone."""

    kind: Literal["local"] = "local"
    n_workers: int = Field(2, ge=1, le=1024, description="Worker processes; one per GPU where there are GPUs.")
    n_threads: int = Field(1, ge=1, description="CPU threads of each worker's numerical libraries.")


class RemoteWorkers(Spec):
    """A Dask cluster that is running already."""

    kind: Literal["remote"] = "remote"
    address: str = Field(description="Of the scheduler, for example tcp://10.0.0.1:8786.")


AnyCluster = Annotated[LocalWorkers | Inline | RemoteWorkers, Field(discriminator="kind")]


@contextmanager
def connect(cluster: LocalWorkers | RemoteWorkers) -> Iterator[Client]:
    """A client of the cluster; workers that were started here end with the block.

    Raises:
        ConnectionError: if nothing answers at the address.
    """
    # Three workers may die under one shard before it counts as the shard's own fault.
    settings = {"distributed.scheduler.allowed-failures": 3, "distributed.worker.daemon": True}
    with dask.config.set(settings):
        if isinstance(cluster, RemoteWorkers):
            with _client(cluster.address) as client:
                yield client
        else:
            with _local(cluster) as workers, Client(workers, set_as_default=False) as client:
                client.wait_for_workers(cluster.n_workers, timeout=300)
                yield client


def _client(address: str) -> Client:
    try:
        return Client(address, timeout=10, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, or use cluster.kind=local"
        ) from error


def _local(cluster: LocalWorkers) -> SpecCluster:
    workers = {
        i: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "resources": {SLOT: 1},
                "env": _environment(i, cluster.n_threads),
                "host": "127.0.0.1",
                "dashboard_address": None,
            },
        }
        for i in range(cluster.n_workers)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": None}}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs="ERROR")


def _environment(index: int, n_threads: int) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = visible.split(",") if visible else []
    mine = gpus[index % len(gpus)] if gpus else str(index)
    threads = str(n_threads)
    return {"CUDA_VISIBLE_DEVICES": mine, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
