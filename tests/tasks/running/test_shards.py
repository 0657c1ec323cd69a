"""Mapping work over shards: what fails, what is kept, what is done again; on real worker processes."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from distributed import Scheduler, SpecCluster
from distributed.utils import LoopRunner

from tasks.running import cluster as cluster_module
from tasks.running import shards as shards_module
from tasks.running import supervision
from tasks.running.cluster import AnyCluster, Inline, LocalWorkers, NoWorkers, RemoteWorkers, connect, kept_running
from tasks.running.mistakes import explain
from tasks.running.shards import Execution, ShardEvent, TooManyFailures, map_shards
from tests.cases import CLUSTERS, missing
from tests.tasks.work import Job, dawdle, die, fill, fill_disk, look_in_vain, multiply, new_store, refuse, tries

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def workers() -> Iterator[RemoteWorkers]:
    """Two worker processes for the whole module: starting them is what takes long."""
    with kept_running(LocalWorkers(n_workers=2)) as running:
        yield running


@pytest.fixture(params=["inline", "workers"])
def execution(request: pytest.FixtureRequest) -> Execution:
    if request.param == "inline":
        return Execution(cluster=Inline())
    return Execution(cluster=request.getfixturevalue("workers"))


def with_options(execution: Execution, **options: int) -> Execution:
    return execution.model_copy(update=options)


def test_every_cluster_has_a_case() -> None:
    assert missing(CLUSTERS, AnyCluster) == set()


def test_every_shard_is_done_once_and_then_never_again(tmp_path: Path, execution: Execution) -> None:
    job, store = new_store(tmp_path)
    events = list(map_shards(fill, job, store, execution))
    assert sorted(event.shard for event in events if event.fraction == 1) == list(range(6))
    assert store.read("x", 0, 6).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert list(map_shards(fill, job, store, execution)) == []
    assert tries(job) == dict.fromkeys(range(6), 1)


def test_what_another_try_can_mend_is_tried_again(tmp_path: Path, execution: Execution) -> None:
    job, store = new_store(tmp_path)
    flaky = job.model_copy(update={"failing": {2: 2, 4: 1}})
    list(map_shards(fill, flaky, store, with_options(execution, retries=2)))
    assert store.pending() == []
    assert tries(job) == {0: 1, 1: 1, 2: 3, 3: 1, 4: 2, 5: 1}


def test_a_shard_that_keeps_failing_is_reported_and_the_others_are_kept(tmp_path: Path, execution: Execution) -> None:
    job, store = new_store(tmp_path)
    broken = job.model_copy(update={"failing": {1: 9, 4: 9}})
    with pytest.raises(TooManyFailures, match="4 of 6 shards of .* are done and kept") as caught:
        list(map_shards(fill, broken, store, with_options(execution, retries=1, max_failed=2)))
    assert "shard 1: OSError: try 1 of shard 1 went wrong" in str(caught.value)
    assert [shard.index for shard in store.pending()] == [1, 4]
    assert tries(job) == {0: 1, 1: 2, 2: 1, 3: 1, 4: 2, 5: 1}

    list(map_shards(fill, job, store, execution))
    assert store.pending() == []
    assert tries(job) == {0: 1, 1: 3, 2: 1, 3: 1, 4: 3, 5: 1}


def test_a_run_stops_at_one_failure_more_than_it_tolerates(tmp_path: Path) -> None:
    job, store = new_store(tmp_path)
    broken = job.model_copy(update={"failing": {1: 9, 3: 9}})
    with pytest.raises(TooManyFailures):
        list(map_shards(refuse, broken, store, Execution(cluster=Inline(), max_failed=1)))
    assert tries(job) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_a_users_mistake_is_not_tried_again(tmp_path: Path, execution: Execution) -> None:
    job, store = new_store(tmp_path)
    broken = job.model_copy(update={"failing": {0: 9}})
    with pytest.raises(TooManyFailures, match="^shard 0: this shard cannot be used\\. "):
        list(map_shards(refuse, broken, store, with_options(execution, max_failed=5)))
    assert tries(job) == dict.fromkeys(range(6), 1)


def test_a_fault_of_the_program_comes_back_with_its_place(tmp_path: Path, execution: Execution) -> None:
    job, store = new_store(tmp_path)
    broken = job.model_copy(update={"failing": {3: 9}})
    with pytest.raises(TooManyFailures, match="^shard 3: ValueError: matmul: ") as caught:
        list(map_shards(multiply, broken, store, execution))
    assert explain(caught.value) is None
    said = "".join(traceback.format_exception(caught.value))
    assert "np.zeros((2, 3)) @ np.zeros((2, 3))" in said

    with pytest.raises(TooManyFailures) as caught:
        list(map_shards(refuse, broken, store, execution))
    assert str(explain(caught.value)).startswith("shard 3: this shard cannot be used. ")


def test_a_store_that_is_not_there_is_not_looked_for_again(tmp_path: Path, execution: Execution) -> None:
    """The error must come back from a worker as what it was."""
    job, store = new_store(tmp_path)
    with pytest.raises(TooManyFailures, match=r"\bshard 0: there is no file .*store/nothing"):
        list(map_shards(look_in_vain, job, store, with_options(execution, max_failed=5)))
    assert set(tries(job).values()) == {1}


def test_failures_are_told_in_the_order_of_shards_whichever_came_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, store = new_store(tmp_path)
    pending = store.pending()
    monkeypatch.setattr(type(store), "pending", lambda self: pending[::-1])
    with pytest.raises(TooManyFailures, match=r"^shard 0: .*; shard 1: .*; shard 2: .*; and 3 more\."):
        list(map_shards(look_in_vain, job, store, Execution(cluster=Inline(), max_failed=5)))


def test_a_full_disk_on_a_worker_is_explained_to_the_user(tmp_path: Path, execution: Execution) -> None:
    job, store = new_store(tmp_path)
    with pytest.raises(TooManyFailures, match=r"the disk \(or quota\) under .*store is full: free some space"):
        list(map_shards(fill_disk, job, store, execution))
    assert set(tries(job).values()) == {1}


def test_shards_that_nobody_waits_for_give_their_worker_back(tmp_path: Path, workers: RemoteWorkers) -> None:
    job, store = new_store(tmp_path)
    with closing(map_shards(dawdle, job, store, Execution(cluster=workers))) as events:
        assert 0 < next(events).fraction < 1
    start = time.monotonic()
    list(map_shards(fill, job, store, Execution(cluster=workers)))
    assert store.pending() == []
    # Had they gone on, the workers would have been busy for a minute.
    assert time.monotonic() - start < 30


def test_runs_that_share_workers_do_not_see_each_others_progress(tmp_path: Path, workers: RemoteWorkers) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    slow, slow_store = new_store(tmp_path / "a", n=1)
    job, store = new_store(tmp_path / "b", n=3)
    with closing(map_shards(dawdle, slow, slow_store, Execution(cluster=workers))) as other:
        assert next(other).fraction < 1
        events = list(map_shards(fill, job, store, Execution(cluster=workers)))
    assert sorted(events) == [ShardEvent(i, 1.0) for i in range(3)]


def test_no_more_workers_start_than_there_are_shards(tmp_path: Path) -> None:
    job, store = new_store(tmp_path, n=1)
    with kept_running(LocalWorkers(n_workers=3)) as running, connect(running) as client:
        assert client.nthreads() == {}
        list(map_shards(fill, job, store, Execution(cluster=running)))
        assert list(client.nthreads().values()) == [1]


def test_workers_have_their_share_of_threads_and_a_folder_that_goes_away(workers: RemoteWorkers) -> None:
    with connect(workers) as client:
        folders = client.run(os.getcwd), client.run(lambda dask_worker: dask_worker.local_directory)
        threads = client.run(_torch_threads)
    assert set(folders[0].values()) == {os.getcwd()}
    assert all("scoreinv-dask-" in folder for folder in folders[1].values())
    assert set(threads.values()) == {1}


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def test_a_scheduler_that_is_not_there_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    job, store = new_store(tmp_path)
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at tcp://127.0.0.1:1 "):
        list(map_shards(fill, job, store, Execution(cluster=RemoteWorkers(address="tcp://127.0.0.1:1"))))
    with pytest.raises(ConnectionError, match="no Dask scheduler answers at nonsense://x "):
        list(map_shards(fill, job, store, Execution(cluster=RemoteWorkers(address="nonsense://x"))))


def test_a_cluster_whose_workers_have_no_slot_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_module, "PATIENCE_SECONDS", 1.0)
    job, store = new_store(tmp_path)
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}}
    with SpecCluster(workers={}, scheduler=scheduler) as empty:
        remote = RemoteWorkers(address=empty.scheduler_address)
        with pytest.raises(ConnectionError, match="--resources SLOT=1"):
            list(map_shards(fill, job, store, Execution(cluster=remote)))


def test_threads_that_a_stalled_machine_starts_late_are_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, late = LoopRunner._start_unlocked, [True, True, False, True]

    def start_late(runner: LoopRunner) -> None:
        # As it ends after ten seconds without its thread.
        assert not (late and late.pop(0))
        start(runner)

    monkeypatch.setattr(LoopRunner, "_start_unlocked", start_late)
    job, store = new_store(tmp_path)
    list(map_shards(fill, job, store, Execution(cluster=LocalWorkers(n_workers=1))))
    assert store.pending() == []
    assert late == []


def test_a_shard_that_kills_its_workers_is_left_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "ALLOWED_DEATHS", 0)
    job, store = new_store(tmp_path, n=4)
    deadly = job.model_copy(update={"failing": {1: 1}})
    # Dask blames those that waited on the same worker as well; they are not at fault.
    with pytest.raises(TooManyFailures, match="^shard 1: worker processes died under it again and again"):
        list(map_shards(die, deadly, store, Execution(cluster=LocalWorkers(n_workers=1), max_failed=1)))
    assert [shard.index for shard in store.pending()] == [1]
    assert tries(job)[1] == 2


@contextmanager
def killing_workers(n: int) -> Iterator[list[int]]:
    """A block in which the first n new worker processes are killed as soon as there is one: the process ids."""
    killed: list[int] = []
    before = {child.pid for child in psutil.Process().children()}
    over = threading.Event()

    def watch() -> None:
        while len(killed) < n and not over.wait(0.02):
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if "tasks.workers.serve" in child.cmdline() and child.pid not in before.union(killed):
                        child.kill()
                        killed.append(child.pid)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_workers_that_are_killed_while_they_start_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.1)
    job, store = new_store(tmp_path)
    with killing_workers(2) as killed:
        list(map_shards(fill, job, store, Execution(cluster=LocalWorkers(n_workers=1))))
    assert len(killed) == 2
    assert store.pending() == []
    assert tries(job) == dict.fromkeys(range(6), 1)


def test_workers_that_are_always_killed_while_they_start_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.1)
    job, store = new_store(tmp_path)
    with (
        killing_workers(100) as killed,
        pytest.raises(NoWorkers, match="on this machine, after 3 tries: it was killed"),
    ):
        list(map_shards(fill, job, store, Execution(cluster=LocalWorkers(n_workers=2))))
    assert len(killed) == 6
    assert tries(job) == {}


def test_workers_that_cannot_start_end_the_run_with_their_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then and in every run on the same cluster; this process has torch already, its workers find a broken one."""
    monkeypatch.setattr(supervision, "PAUSE_SECONDS", 0.1)
    (tmp_path / "torch.py").write_text("raise ImportError('libnothere.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    job, store = new_store(tmp_path)
    before = psutil.Process().children()
    with kept_running(LocalWorkers(n_workers=2)) as running:
        for _ in range(2):
            with pytest.raises(NoWorkers, match="last words: ImportError: libnothere.so: cannot open\n"):
                list(map_shards(fill, job, store, Execution(cluster=running)))
    assert set(psutil.Process().children()) <= set(before)


CHILD = """
import sys
from tests.tasks.work import Job, dawdle
from storage.shards import ShardedStore
from tasks.running.cluster import LocalWorkers
from tasks.running.shards import Execution, map_shards

if __name__ == "__main__":
    job = Job.model_validate_json(sys.argv[1])
    store = ShardedStore.open(job.target, finished=False)
    for event in map_shards(dawdle, job, store, Execution(cluster=LocalWorkers(n_workers=1))):
        print("busy", flush=True)
"""


def test_no_worker_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    job, _ = new_store(tmp_path)
    process = _child(tmp_path, job)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(signal.SIGKILL)
        assert psutil.wait_procs(family, timeout=30)[1] == []
        assert list(tmp_path.glob("scoreinv-dask-*")) == []
    finally:
        process.kill()
        process.communicate()


def _child(folder: Path, job: Job) -> "subprocess.Popen[str]":
    script = folder / "child.py"
    script.write_text(CHILD)
    return subprocess.Popen(
        [sys.executable, str(script), job.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
    )
