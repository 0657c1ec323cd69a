"""A Dask cluster that runs already: workers that come and go during a run, and one that wants certificates."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from distributed import Security

from tasks.running import cluster as cluster_module
from tasks.running.cluster import Certificates, RemoteWorkers, connect
from tasks.running.shards import Execution, ShardEvent, map_shards
from tests.tasks.work import begun, fill, hurry, new_store, tries, who

ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 200.0


@contextmanager
def process(*words: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of Dask's own commands, as a user starts it; ended with the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [sys.executable, "-m", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        running.terminate()
        with suppress(subprocess.TimeoutExpired):
            running.wait(10)
        running.kill()
        running.wait()


@contextmanager
def scheduler(folder: Path, *options: str) -> Iterator[str]:
    """The address of a scheduler."""
    file = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file), *options)
    with process("distributed.cli.dask_scheduler", *options):
        wait_until(file.exists)
        yield json.loads(file.read_text())["address"]


@contextmanager
def worker(address: str, folder: Path, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    options = ("--nthreads", "1", "--resources", "SLOT=1", "--no-nanny", "--no-dashboard", *options)
    with process("distributed.cli.dask_worker", address, "--local-directory", str(folder), *options) as running:
        yield running


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def retire(running: "subprocess.Popen[bytes]", address: str) -> None:
    with connect(RemoteWorkers(address=address)) as client:
        pids = client.run(os.getpid)
        client.retire_workers([name for name, pid in pids.items() if pid == running.pid])


WAYS: dict[str, Callable[["subprocess.Popen[bytes]", str], None]] = {
    "killed": lambda running, address: running.kill(),
    "terminated": lambda running, address: running.send_signal(signal.SIGTERM),
    "retired": retire,
}


def is_in_the_middle(shards: list[int], told: list[ShardEvent], *, more_than: int) -> bool:
    """Whether a worker has begun another shard, and all of its before that are told to be done."""
    fractions = {event.shard: event.fraction for event in told}
    return len(shards) > more_than and all(fractions.get(one) == 1 for one in shards[:-1])


def test_a_run_outlives_all_its_workers(tmp_path: Path) -> None:
    """In the middle of a run another worker joins and is given shards; then the one before leaves; in every way."""
    job, store = new_store(tmp_path, n=60)
    slow = job.model_copy(update={"seconds": 5.0})
    with ThreadPoolExecutor(1) as pool, scheduler(tmp_path) as address, ExitStack() as workers:
        execution = Execution(cluster=RemoteWorkers(address=address), retries=0)
        told: list[ShardEvent] = []
        run = pool.submit(lambda: told.extend(map_shards(fill, slow, store, execution)))
        present = workers.enter_context(worker(address, tmp_path / "first"))
        wait_until(lambda: present.pid in who(job))
        for name, leave in WAYS.items():
            follower = workers.enter_context(worker(address, tmp_path / name))
            wait_until(lambda follower=follower: follower.pid in who(job))
            # A shard that is done and not told yet would be a second one to do again.
            n_before = len(begun(job, present.pid))
            wait_until(lambda gone=present, n=n_before: is_in_the_middle(begun(job, gone.pid), told, more_than=n))
            leave(present, address)
            wait_until(lambda gone=present: gone.poll() is not None)  # sooner it could begin what is another's already
            present = follower
        assert not run.done()
        hurry(slow)
        run.result(WAIT_SECONDS)
        done = [event.shard for event in told if event.fraction == 1]
    assert sorted(done) == list(range(60))
    assert store.pending() == []
    assert len(who(job)) == len(WAYS) + 1
    # What was in work when a worker left is done once more, and nothing else.
    assert sum(tries(job).values()) <= 60 + len(WAYS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of one authority, in files."""
    folder, made = tmp_path_factory.mktemp("tls"), Security.temporary()
    for name, text in (("ca", made.tls_ca_file), ("cert", made.tls_client_cert), ("key", made.tls_client_key)):
        (folder / name).write_text(text)
    return Certificates(ca=str(folder / "ca"), cert=str(folder / "cert"), key=str(folder / "key"))


def test_a_scheduler_that_wants_certificates_is_used_with_them_alone(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = new_store(tmp_path)
    files = ("--tls-ca-file", certificates.ca, "--tls-cert", certificates.cert, "--tls-key", certificates.key)
    with scheduler(tmp_path, "--protocol", "tls", *files) as address, worker(address, tmp_path / "one", *files):
        assert address.startswith("tls://")
        list(map_shards(fill, job, store, Execution(cluster=RemoteWorkers(address=address, tls=certificates))))
        monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 2.0)
        for refused in (
            RemoteWorkers(address=address),
            RemoteWorkers(address=address.replace("tls://", "tcp://")),
            RemoteWorkers(address=address, tls=others(tmp_path)),
            RemoteWorkers(address=address, tls=certificates.model_copy(update={"key": str(tmp_path / "nothing")})),
        ):
            with pytest.raises(ConnectionError, match="no Dask scheduler answers at t"), connect(refused):
                pass
    assert store.pending() == []


def others(folder: Path) -> Certificates:
    """Of another authority."""
    made = Security.temporary()
    (folder / "other").write_text(f"{made.tls_client_cert}{made.tls_client_key}")
    return Certificates(ca=str(folder / "other"), cert=str(folder / "other"), key=str(folder / "other"))
