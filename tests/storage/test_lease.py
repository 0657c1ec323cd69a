"""One owner at a time: refused by name, taken over from the dead and from them alone, on disks and in a bucket."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import psutil
import pytest

from storage import lease as lease_module
from storage.errors import LeaseLost, StoreHeld
from storage.lease import (
    EXPIRY_SECONDS,
    Lease,
    Owner,
    Watch,
    leased,
    look_seconds,
    refuse_held,
    take,
)
from storage.processes import own_mark, started_at, this_machine
from storage.shards import ShardedStore
from storage.uri import create_bytes, join, list_names, read_bytes, write_bytes, write_json
from tests.storage.sharded import fill, make


class Clock:
    """One that goes where a test wants it to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def put_owner(uri: str, number: int = 1, **changes: object) -> Owner:
    """An owner, by default a process of another machine."""
    owner = Owner.here()._replace(**{"host": "elsewhere", "machine": "elsewhere", "pid": 1, **changes})
    write_json(join(uri, "lease", f"{number}.json"), owner._asdict())
    return owner


def beat(uri: str, count: int) -> None:
    write_bytes(join(uri, "lease", "1.beat"), str(count).encode())


def until(happens: object, seconds: float = 30.0) -> None:
    """Wait for something that happens in a moment."""
    assert callable(happens)
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def child(script: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python process that has said "in"."""
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "in\n"
        yield process
    finally:
        process.kill()
        process.communicate()


# ---- one after the other -------------------------------------------------------------------------------------------


def test_a_second_owner_is_refused_by_name_until_the_first_has_left(uri: str) -> None:
    with leased(uri):
        with pytest.raises(
            StoreHeld, match=rf"process {os.getpid()} on {socket.gethostname()} since 20.* UTC works on"
        ):
            refuse_held(uri)
        with pytest.raises(StoreHeld, match="wait for it or end it"), leased(uri):
            pass
        assert take(uri) is None
    refuse_held(uri)
    with leased(uri) as second:
        assert second.number == 2
        assert second.before is not None
        assert second.before.pid == os.getpid()
    assert list_names(join(uri, "lease")) == ["1.json", "1.over", "2.json", "2.over"]


@pytest.mark.parametrize("place", ["local", "bucket"])
def test_of_many_that_come_at_once_one_has_it(place: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    root = str(tmp_path) if place == "local" else request.getfixturevalue("bucket")
    for number in range(5):
        uri, taken = join(root, str(number)), list[Lease | None]()
        gate = threading.Barrier(6)

        def come(uri: str = uri, taken: list[Lease | None] = taken, gate: threading.Barrier = gate) -> None:
            gate.wait()
            taken.append(take(uri))

        threads = [threading.Thread(target=come) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 6
        assert sum(lease is not None for lease in taken) == 1


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a small S3 server in this process."""
    server_module, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="results")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield "s3://results"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def test_a_bucket_has_one_owner_who_beats_and_is_taken_over(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri, clock = join(bucket, "prior"), Clock()
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.1)
    with leased(uri) as first:
        with pytest.raises(StoreHeld, match=f"process {os.getpid()} on"):
            refuse_held(uri)
        until(lambda: "1.beat" in list_names(join(uri, "lease")))
        first.require()
        monkeypatch.setattr(lease_module, "this_machine", lambda: "another")
        monkeypatch.setattr(lease_module, "BEAT_SECONDS", 60.0)
        time.sleep(0.5)
        watch = Watch(uri, clock=clock)
        while watch.owner() is not None:
            clock.now += look_seconds(uri)
        assert clock.now - 1000 >= EXPIRY_SECONDS
        with leased(uri) as second:
            assert second.number == 2
            with pytest.raises(LeaseLost, match="was taken over while this process"):
                first.require()


# ---- who is dead ---------------------------------------------------------------------------------------------------

OWNER = """
import sys
from storage.lease import leased
with leased(sys.argv[1]):
    print("in", flush=True)
    input()
"""


def test_an_owner_that_was_killed_is_taken_over_at_once(tmp_path: Path) -> None:
    """Also while nobody has asked yet how it ended."""
    uri = str(tmp_path / "prior")
    with child(OWNER, uri) as owner:
        with pytest.raises(StoreHeld, match=f"process {owner.pid} "):
            refuse_held(uri)
        owner.kill()
        until(lambda: psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE)
        with leased(uri) as lease:
            assert lease.number == 2


def test_a_process_of_the_same_number_is_another(uri: str) -> None:
    here = Owner.here()
    put_owner(uri, host=here.host, machine=here.machine, pid=here.pid, started=here.started - 1000)
    refuse_held(uri)
    assert list_names(join(uri, "lease")) == ["1.json", "1.over"]


def test_a_process_that_the_system_hides_is_not_gone(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other users, on machines that many share (hidepid)."""
    here, nobody = Owner.here(), 2**22 + 1
    put_owner(uri, host=here.host, machine=here.machine, pid=nobody)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    with monkeypatch.context() as hidden:
        hidden.setattr(os, "kill", refuse)
        with pytest.raises(StoreHeld, match=f"process {nobody} on"):
            refuse_held(uri)
    refuse_held(uri)


def test_a_clock_that_is_set_does_not_move_the_start_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil counts the start from the wall clock's idea of the boot, which moves with it."""
    before = started_at(os.getpid())
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)
    assert started_at(os.getpid()) == before
    assert before is not None


@pytest.mark.parametrize("machine", ["host", "container"])
def test_the_same_number_on_a_machine_of_the_same_name_is_no_process_of_this_one(uri: str, machine: str) -> None:
    """Of another boot, or of another table of processes."""
    parts = this_machine().split(" ")
    parts[1 if machine == "host" else 2] += "0"
    put_owner(uri, host=socket.gethostname(), machine=" ".join(parts), pid=2**22 + 1)
    with pytest.raises(StoreHeld):
        refuse_held(uri)


def test_an_owner_elsewhere_lives_while_it_beats(uri: str) -> None:
    clock, owner = Clock(), put_owner(uri)
    watch = Watch(uri, clock=clock)
    for count in range(100):
        assert watch.owner() == owner
        assert watch.has_seen_life == (count > 0)
        clock.now += 5.0
        beat(uri, count)


def test_an_owner_elsewhere_that_is_silent_is_dead_once_and_for_all(uri: str) -> None:
    clock = Clock()
    put_owner(uri)
    beat(uri, 17)
    watch = Watch(uri, clock=clock)
    while watch.owner() is not None:
        assert not watch.has_seen_life
        clock.now += look_seconds(uri)
    assert EXPIRY_SECONDS <= clock.now - 1000 <= EXPIRY_SECONDS + 2 * look_seconds(uri)
    # Who comes now need not wait as well.
    with leased(uri) as lease:
        assert lease.number == 2


@pytest.mark.parametrize("leap", [1e9, -1e9])
def test_a_clock_that_leaps_ends_no_living_lease_and_keeps_no_dead_one(uri: str, leap: float) -> None:
    """As it does of a machine that slept: its owners slept as well, and their next beat takes a moment."""
    clock, owner = Clock(), put_owner(uri)
    watch = Watch(uri, clock=clock)
    watch.owner()
    n_looks = 0
    while watch.owner() is not None:
        clock.now += leap if n_looks % 2 else look_seconds(uri)
        n_looks += 1
    # Each look takes look_seconds at least.
    waited = n_looks * look_seconds(uri)
    assert 2 * lease_module.BEAT_SECONDS <= waited <= 2 * EXPIRY_SECONDS + 2 * look_seconds(uri)
    assert owner.machine == "elsewhere"


def test_a_damaged_owner_owns_nothing(uri: str) -> None:
    write_json(join(uri, "lease", "1.json"), {"pid": "?"})
    with leased(uri) as lease:
        assert lease.number == 2


def test_a_later_version_may_say_more_of_an_owner(uri: str) -> None:
    write_json(join(uri, "lease", "1.json"), {**Owner.here()._asdict(), "colour": "red"})
    with pytest.raises(StoreHeld, match=f"process {os.getpid()} on"):
        refuse_held(uri)


# ---- who was taken over --------------------------------------------------------------------------------------------


def test_an_owner_beats_and_does_not_take_back_what_was_taken_over(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.05)
    with leased(uri) as lease:
        until(lambda: "1.beat" in list_names(join(uri, "lease")))
        before = read_bytes(join(uri, "lease", "1.beat"))
        until(lambda: read_bytes(join(uri, "lease", "1.beat")) != before)
        lease.refuse_lost()
        create_bytes(join(uri, "lease", "1.over"), b"")
        other = put_owner(uri, 2)
        until(lease._lost.is_set)
        with pytest.raises(LeaseLost, match=f"taken over while this process .process {os.getpid()} on"):
            lease.refuse_lost()
        last = read_bytes(join(uri, "lease", "1.beat"))
        time.sleep(0.3)
        assert read_bytes(join(uri, "lease", "1.beat")) == last
    assert Watch(uri).owner() == other


def test_a_lease_without_a_beat_can_be_required_and_is_not_another_ones(uri: str) -> None:
    with leased(uri) as lease:
        lease.require()
        put_owner(uri, 1)
        with pytest.raises(LeaseLost):
            lease.require()


STALE = """
import sys
from storage import lease
from storage.errors import LeaseLost
from storage.shards import ShardedStore
from tests.storage.sharded import values
lease.BEAT_SECONDS = 0.1
store = ShardedStore.open(sys.argv[1], finished=False)
with lease.take(store.uri) as store.lease:
    first, *rest = store.plan()
    store.write(first, values(first), record={"shard": first.index})
    print("in", flush=True)
    input()
    for shard in rest:
        store.write(shard, values(shard), record={"shard": shard.index})
    try:
        store.finish()
    except LeaseLost:
        print("lost", flush=True)
"""


def test_an_owner_that_was_stopped_and_wakes_damages_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes shards at the same time as who took over, and may not finish the store."""
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(lease_module, "EXPIRY_SECONDS", 1.5)
    store, calm = make(str(tmp_path / "store")), make(str(tmp_path / "calm"))
    with child(STALE, store.uri) as stale:
        watch = Watch(store.uri)
        until(lambda: watch.owner() and watch.has_seen_life and "1.beat" in list_names(join(store.uri, "lease")))
        stale.send_signal(signal.SIGSTOP)

        def is_free() -> bool:
            time.sleep(look_seconds(store.uri))
            return watch.owner() is None

        until(is_free)
        lease = take(store.uri)
        assert lease is not None
        with lease as store.lease:
            fill(store)
            with pytest.raises(StoreHeld):
                ShardedStore.open(store.uri, finished=False).finish()
            stale.send_signal(signal.SIGCONT)
            assert stale.communicate("\n", timeout=60)[0] == "lost\n"
            assert not store.is_finished()
            store.finish()
    assert store.verify() == []
    fill(calm)
    calm.finish()
    assert store.content_digest() == calm.content_digest()


def test_a_finished_store_is_opened_without_a_lease(tmp_path: Path) -> None:
    store = make(str(tmp_path / "store"))
    fill(store)
    store.finish()
    names = sorted(str(path) for path in tmp_path.rglob("*"))
    make(store.uri)
    ShardedStore.open(store.uri).read("x", 0, 10)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == names
    assert list_names(join(store.uri, "lease")) == []


def test_who_leaves_removes_what_the_dead_left_under_temporary_names_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    machine = own_mark().partition("-")[2]
    left = [f"lease/.1.over.{dead.pid}-{machine}.{'0' * 32}.partial", f"a/b/.c.json.{dead.pid}-{machine}.0.partial"]
    kept = [f".c.{own_mark()}.0.partial", f".c.{dead.pid}-00000000.0.partial", "a/.partial", f"{dead.pid}-{machine}"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with leased(str(tmp_path)):
        assert all((tmp_path / name).exists() for name in left + kept)
    assert not any((tmp_path / name).exists() for name in left)
    assert all((tmp_path / name).exists() for name in kept)
