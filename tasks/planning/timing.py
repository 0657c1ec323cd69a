"""What methods cost on the workers that would compute, timed on all of them at once.

One worker alone would promise too much: workers of one machine share its memory bandwidth and its cooling.
"""

import psutil
import torch
from dask.system import CPU_COUNT
from distributed import Client, KilledWorker
from distributed.system import MEMORY_LIMIT

from tasks.running.cluster import (
    SLOT,
    AnyCluster,
    Inline,
    OwnWorkers,
    RemoteWorkers,
    connect,
    patience_of,
    wait_for_workers,
)
from tasks.running.shards import PATIENCE_SECONDS
from tasks.workers.probe import ProbeJob, Timing, probe

WORKER_GIB = 1.5
"""Memory to count on for a worker on a CPU: with a prior for 128 x 128 pixels one was seen to take half of it."""


def machine_workers(device: str) -> int:
    """One worker per GPU, or per physical core as far as the memory goes."""
    if device != "cpu" and torch.cuda.is_available():
        return int(torch.cuda.device_count())
    cores = min(CPU_COUNT, psutil.cpu_count(logical=False) or CPU_COUNT)
    return max(1, min(int(cores), int(MEMORY_LIMIT / 2**30 / WORKER_GIB)))


def time_on(cluster: AnyCluster, job: ProbeJob) -> tuple[Timing, int]:
    """What the slowest worker found while all were busy, and how many they are.

    Raises:
        ConnectionError: if there is no Dask cluster, or it has too few workers.
        MemoryError: if workers died, or an image does not fit into a GPU's memory.
    """
    if isinstance(cluster, Inline):
        return probe(job), 1
    with connect(cluster) as client:
        n_workers = _ready_workers(client, cluster)
        try:
            found: list[Timing] = client.gather(client.map(probe, [job] * n_workers, resources={SLOT: 1}, pure=False))
        except KilledWorker as error:
            raise MemoryError(
                f"worker processes died while the prior was timed on {n_workers} of them; too little memory is the "
                "usual reason: plan with fewer workers, as --workers 1"
            ) from error
    return max(found, key=lambda timing: sum(timing.methods)), n_workers


def _ready_workers(client: Client, cluster: OwnWorkers | RemoteWorkers) -> int:
    if not isinstance(cluster, RemoteWorkers):
        n_workers = cluster.count()
        # They start when there is work; all must be there, or the first would be timed alone.
        _tasks = client.map(int, range(n_workers), resources={SLOT: 1}, pure=False)
        wait_for_workers(client, n_workers, patience_of(client, PATIENCE_SECONDS))
        return n_workers
    n_workers = len(client.nthreads())
    if n_workers == 0:
        raise ConnectionError(
            f"the cluster at {cluster.address} has no worker: start some with "
            f"`dask worker {cluster.address} --nthreads 1 --resources {SLOT}=1`"
        )
    return n_workers
