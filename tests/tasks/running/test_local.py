"""Workers of this machine: how many there are, which GPU each sees, and who may talk to them."""

import os
from pathlib import Path

import pytest
import torch
from distributed import Client, Security

from tasks.running.cluster import LocalWorkers, connect, kept_running
from tasks.running.shards import Execution, map_shards
from tests.tasks.work import fill, new_store


def give_gpus(monkeypatch: pytest.MonkeyPatch, n: int, visible: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("n_gpus", "visible", "asked", "expected"),
    [
        (0, None, 0, 2),
        (0, "", 0, 2),
        (0, "-1", 0, 2),
        (1, None, 0, 1),
        (8, None, 0, 8),
        (3, "5,GPU-a1b2,7", 0, 3),
        (8, None, 2, 2),
    ],
)
def test_there_is_one_worker_per_gpu_or_two_without(
    monkeypatch: pytest.MonkeyPatch, n_gpus: int, visible: str | None, asked: int, expected: int
) -> None:
    give_gpus(monkeypatch, n_gpus, visible)
    assert LocalWorkers(n_workers=asked).count() == expected


def test_every_worker_process_sees_its_own_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_gpus(monkeypatch, 2, "5,GPU-a1b2,7")
    job, store = new_store(tmp_path)
    with kept_running(LocalWorkers()) as running, connect(running) as client:
        list(map_shards(fill, job, store, Execution(cluster=running)))
        client.wait_for_workers(2, timeout=60)
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == ["5", "GPU-a1b2"]


def test_more_workers_than_gpus_share_them_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_gpus(monkeypatch, 2)
    job, store = new_store(tmp_path)
    with kept_running(LocalWorkers(n_workers=3)) as running, connect(running) as client:
        list(map_shards(fill, job, store, Execution(cluster=running)))
        client.wait_for_workers(3, timeout=60)
        seen = client.run(os.getenv, "CUDA_VISIBLE_DEVICES")
    assert sorted(seen.values()) == ["0", "0", "1"]


def test_who_has_no_certificate_is_refused(tmp_path: Path) -> None:
    """By the scheduler and by the worker, with and without encryption; nothing of the certificates lies in a file."""
    job, store = new_store(tmp_path)
    with kept_running(LocalWorkers(n_workers=1, tls=True)) as running, connect(running) as client:
        assert running.address.startswith("tls://127.0.0.1:")
        list(map_shards(fill, job, store, Execution(cluster=running)))
        (worker,) = client.nthreads()
        assert worker.startswith("tls://127.0.0.1:")
        (folder,) = client.run(lambda dask_worker: dask_worker.local_directory).values()
        assert not [path for path in Path(folder).parent.rglob("*") if path.is_file() and b"BEGIN" in path.read_bytes()]
        for address in (running.address, worker):
            bare = address.replace("tls://", "tcp://")
            refused(bare, Security(require_encryption=False))
            refused(address, Security.temporary())
    assert store.pending() == []


def refused(address: str, security: Security) -> None:
    with pytest.raises(OSError, match="Timed out|certificate|closed|SSL|TLS"):
        Client(address, security=security, timeout=2, set_as_default=False)
