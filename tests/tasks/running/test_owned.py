"""Runs of one recipe at once, in real processes: one computes, the others follow it and go on in its place."""

import logging
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import pytest
from prefect.logging import disable_run_logger

import tasks.progress
from storage import lease as lease_module
from storage.errors import StoreHeld
from storage.lease import Owner, leased, take
from storage.shards import ShardedStore
from storage.uri import create_bytes, join, list_names, write_json
from tasks.progress import follow
from tasks.running import owned as owned_module
from tasks.running.cluster import Inline
from tasks.running.owned import await_turn, owned, owned_folder
from tasks.running.shards import Execution, map_shards
from tests.tasks.work import Job, fill, new_store, tries, wait_for_the_gate

FOLLOW = Execution(cluster=Inline())
FAIL = Execution(cluster=Inline(), when_busy="fail")


@contextmanager
def _nothing_is_shown() -> Iterator[None]:
    """A block in which no progress goes to a server."""
    with pytest.MonkeyPatch.context() as patch, disable_run_logger():
        for name in ("progress_artifact", "update_progress_artifact"):
            patch.setattr(tasks.progress, name, lambda *_, **__: uuid.uuid4())
        yield


@pytest.fixture(autouse=True)
def _without_a_server() -> Iterator[None]:
    with _nothing_is_shown():
        yield


def filled(folder: Path, say: Callable[[str], None]) -> None:
    """Fill the store in a folder as a stage does, and say what this process does."""
    store = ShardedStore.open(str(folder / "store"), finished=False)
    job = Job(target=store.uri, traces=str(folder / "traces"))
    while not store.is_finished():
        with owned([store], FOLLOW, "Filling") as mine:
            say("mine" if mine else "followed")
            if mine:
                follow(map_shards(wait_for_the_gate, job, store, FOLLOW), store, "Filling")
                store.finish()
    say("done")


def _filler(folder: Path, sender: Connection) -> None:
    # A run of tests in the background ignores it, and its processes would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _nothing_is_shown():
        sender.send("in")
        filled(folder, sender.send)


def until_said(receiver: Connection, word: str) -> list[str]:
    """What a process says, up to a word."""
    said = list[str]()
    while word not in said:
        assert receiver.poll(300)
        said.append(receiver.recv())
    return said


def test_one_fills_and_others_follow_and_go_on_where_it_is_killed(tmp_path: Path) -> None:
    """Whoever follows can be interrupted, which ends nobody else."""
    job, store = new_store(tmp_path)
    # From a server that has everything imported, a process starts in a moment.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pipes = [context.Pipe(duplex=False) for _ in range(4)]
    processes = [context.Process(target=_filler, args=(tmp_path, sender)) for _, sender in pipes]
    owner, leaver = processes[:2]
    receivers = [receiver for receiver, _ in pipes]
    try:
        for process, receiver, word in zip(processes, receivers, ("mine", "in", "in", "in"), strict=True):
            process.start()
            until_said(receiver, word)
        time.sleep(1.0)
        os.kill(leaver.pid or 0, signal.SIGINT)
        leaver.join(60)
        assert leaver.exitcode not in (0, None)
        assert owner.is_alive()
        assert tries(job) == {0: 1}
        owner.kill()
        owner.join()
        (tmp_path / "gate").touch()
        said = [until_said(receiver, "done") for receiver in receivers[2:]]
    finally:
        for process in processes:
            if process.pid:
                process.kill()
                process.join()
    # One took over; the other followed the first, the second, or both.
    assert sum("mine" in words for words in said) == 1
    assert tries(job) == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    assert store.verify() == []
    assert store.read("x", 0, 6).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert list_names(join(store.uri, "lease")) == ["1.json", "1.over", "2.json", "2.over"]


# ---- in one process ------------------------------------------------------------------------------------------------


def test_who_does_not_want_to_wait_is_told_who_is_at_it(tmp_path: Path) -> None:
    _, store = new_store(tmp_path)
    with leased(store.uri), pytest.raises(StoreHeld, match=r"process .* works on"), owned([store], FAIL, "Filling"):
        pass
    with owned([store], FAIL, "Filling") as mine:
        assert mine == [store]


def test_an_owner_elsewhere_is_refused_when_it_is_known_to_live(tmp_path: Path) -> None:
    """A first look cannot tell it from one that died."""
    uri, shown = str(tmp_path), list[int]()
    write_json(join(uri, "lease", "1.json"), Owner.here()._replace(machine="elsewhere")._asdict())

    def beat() -> None:
        shown.append(len(shown))
        (tmp_path / "lease" / "1.beat").write_text(str(len(shown)))

    with pytest.raises(StoreHeld):
        await_turn([uri], FAIL, beat)
    assert shown == [0]


def test_of_several_stores_those_that_are_free_come_first(tmp_path: Path) -> None:
    stores, jobs = list[ShardedStore](), list[Job]()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        job, store = new_store(tmp_path / name)
        jobs.append(job)
        stores.append(store)
    busy, seen = take(stores[1].uri), list[list[ShardedStore]]()
    assert busy is not None
    with busy:
        list(map_shards(fill, jobs[2], stores[2], FOLLOW))
        stores[2].finish()
        with owned(stores, FOLLOW, "Filling") as mine:
            seen.append(mine)
            assert stores[0].lease
    assert stores[0].lease is None
    with owned(stores, FOLLOW, "Filling") as mine:
        seen.append(mine)
    assert seen == [stores[:1], stores[:2]]
    assert list_names(join(stores[2].uri, "lease")) == []


def test_an_owner_that_was_taken_over_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.05)
    job, store = new_store(tmp_path)
    blocks = list[bool]()
    while not store.is_finished():
        with owned([store], FOLLOW, "Filling") as mine:
            blocks.append(bool(mine))
            if len(blocks) == 1:
                # Another process takes it for dead, makes a shard, and dies.
                create_bytes(join(store.uri, "lease", "1.over"), b"")
                create_bytes(join(store.uri, "lease", "2.json"), b"{}")
                fill(job, 3, lambda _: None)
                time.sleep(0.3)
            if mine:
                follow(map_shards(fill, job, store, FOLLOW), store, "Filling")
                store.finish()
    assert blocks == [True, True]
    assert tries(job)[3] == 1
    assert store.verify() == []


def test_a_store_that_another_version_began_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, store = new_store(tmp_path)
    before = Owner.here()._replace(software="scoreinv 0.0.1")
    write_json(join(store.uri, "lease", "1.json"), before._asdict())
    create_bytes(join(store.uri, "lease", "1.over"), b"")
    with patch.object(owned_module, "get_run_logger", lambda: logging.getLogger("tests")):
        with owned([store], FOLLOW, "Filling") as mine:
            assert mine == [store]
        with owned([store], FOLLOW, "Filling"):
            pass
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"{tmp_path.name}/store was begun by scoreinv 0.0.1 and goes on with {Owner.here().software}"
    ]


def test_a_folder_has_one_owner_who_is_followed(tmp_path: Path) -> None:
    uri, shown, first = str(tmp_path), list[int](), take(str(tmp_path))
    assert first is not None
    first.__enter__()

    def leave() -> None:
        shown.append(len(shown))
        first.__exit__()

    with owned_folder(uri, FOLLOW, leave) as lease:
        assert lease.number == 2
    assert shown == [0, 1]
