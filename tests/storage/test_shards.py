"""Sharded stores: resume, races, full disks."""

import errno
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zarr

import scoreinv
from storage.errors import StoreError, StoreFull, StoreIncomplete, StoreMismatch, StoreNotFound
from storage.shards import ArrayLayout, Shard, ShardedStore
from storage.uri import join, list_names, read_bytes, read_json, read_many, write_bytes
from tests.storage.sharded import LAYOUTS, fill, make, values


def test_what_is_written_is_read_back_exactly(uri: str) -> None:
    store = make(uri)
    fill(store)
    expected = [values(shard) for shard in store.plan()]
    for name in LAYOUTS:
        whole = np.concatenate([v[name] for v in expected])
        np.testing.assert_array_equal(store.read(name, 0, 10), whole)
        np.testing.assert_array_equal(store.read(name, 3, 9), whole[3:9])
        assert store.read(name, 3, 9).dtype == whole.dtype
        assert store.read(name, 4, 4).shape == (0, *LAYOUTS[name].shape)


def test_plan_covers_every_slice_once_with_a_shorter_last_shard(uri: str) -> None:
    assert make(uri).plan() == [Shard(0, 0, 4), Shard(1, 4, 8), Shard(2, 8, 10)]


def test_shard_larger_than_the_store(uri: str) -> None:
    store = make(uri, n=3, shard_size=16)
    fill(store)
    store.finish()
    np.testing.assert_array_equal(ShardedStore.open(uri).read("k", 0, 3), values(Shard(0, 0, 3))["k"])


def test_records_only(uri: str) -> None:
    store = make(uri, arrays={})
    for shard in reversed(store.plan()):
        store.write(shard, {}, record={"rows": [shard.start]})
    store.finish(manifest={"note": "x"})
    reopened = ShardedStore.open(uri)
    assert reopened.records() == [{"rows": [0]}, {"rows": [4]}, {"rows": [8]}]
    assert reopened.manifest() == {"note": "x"}


def test_markers_resume(uri: str) -> None:
    store = make(uri)
    store.write(store.plan()[1], values(store.plan()[1]), record={})
    again = make(uri)
    assert [shard.index for shard in again.pending()] == [0, 2]
    fill(again)
    assert again.pending() == []


def test_marker_says_what_was_written(uri: str) -> None:
    store = make(uri)
    store.write(store.plan()[2], values(store.plan()[2]), record={"seconds": 1.5})
    marker = read_json(join(uri, "done/2.json"))
    assert (marker["start"], marker["stop"], marker["record"]) == (8, 10, {"seconds": 1.5})
    assert {name: len(slices) for name, slices in marker["sha256"].items()} == {"x": 2, "k": 2}
    assert "zarr" in marker["versions"]


def test_a_manifest_names_every_version_that_made_a_shard(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(uri)
    store.write(store.plan()[0], values(store.plan()[0]), record={})
    monkeypatch.setattr(scoreinv, "__version__", "99.0")
    fill(store)
    monkeypatch.undo()
    store.finish()
    assert read_json(join(uri, "manifest.json"))["versions"]["scoreinv"] == f"{scoreinv.__version__}, 99.0"


def test_open_needs_a_finished_store(uri: str) -> None:
    with pytest.raises(StoreNotFound, match=r"plan\.json"):
        ShardedStore.open(uri)
    store = make(uri)
    store.write(store.plan()[1], values(store.plan()[1]), record={})
    with pytest.raises(StoreIncomplete, match=r"2 of 3 shards are missing \(0, 2\).*resumes"):
        ShardedStore.open(uri)
    with pytest.raises(StoreIncomplete, match="2 of 3"):
        store.finish()
    fill(store)
    with pytest.raises(StoreIncomplete, match="was not finished"):
        ShardedStore.open(uri)
    store.finish()
    assert ShardedStore.open(uri).is_finished()


def test_what_is_done_is_changed_only_if_it_is_damaged(uri: str) -> None:
    """So that of two runs at once the one that comes later changes nothing under those who read."""
    store = make(uri)
    fill(store)
    store.finish()
    digest, shard = store.content_digest(), store.plan()[1]
    store.write(shard, values(Shard(9, 4, 8)), record={"shard": 9})
    assert store.is_finished()
    np.testing.assert_array_equal(store.read("x", 4, 8), values(shard)["x"])
    assert store.record(1) == {"shard": 1}
    write_bytes(join(uri, "x/c/1/0/0"), b"damaged")
    store.repair()
    assert not store.is_finished()
    assert store.pending() == [shard]
    with pytest.raises(StoreIncomplete, match="shards 1 are missing"):
        store.read("x", 0, 10)
    with pytest.raises(StoreIncomplete, match="shards 1 are missing"):
        store.records()
    fill(store)
    store.finish()
    assert store.content_digest() == digest


def test_same_plan_reopens_and_another_is_refused(uri: str) -> None:
    fill(make(uri))
    assert make(uri).pending() == []
    for changes in ({"n": 11}, {"shard_size": 5}, {"arrays": {"x": LAYOUTS["x"]}}, {"attrs": {"recipe": {"a": 2}}}):
        with pytest.raises(StoreMismatch, match=next(iter(changes))):
            make(uri, **changes)
    assert make(uri).pending() == []


@pytest.mark.parametrize("changes", [{"n": 0}, {"shard_size": 0}])
def test_empty_plans_are_refused(uri: str, changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        make(uri, **changes)


@pytest.mark.parametrize("shard", [Shard(0, 0, 3), Shard(0, 1, 4), Shard(1, 0, 4), Shard(3, 12, 16), Shard(-1, 8, 10)])
def test_only_whole_shards_of_the_plan_are_written(uri: str, shard: Shard) -> None:
    store = make(uri)
    with pytest.raises(ValueError, match="written whole"):
        store.write(shard, values(Shard(0, 0, 4)), record={})
    assert len(store.pending()) == 3


def test_arrays_must_fill_the_shard(uri: str) -> None:
    store = make(uri)
    shard, good = store.plan()[0], values(store.plan()[0])
    bad = [
        ({"x": good["x"]}, "needs arrays"),
        ({**good, "x": good["x"][:3]}, "whole shard"),
        ({**good, "x": good["x"] + 1j}, "must be float32"),
    ]
    for arrays, reason in bad:
        with pytest.raises(ValueError, match=reason):
            store.write(shard, arrays, record={})
    store.write(shard, {**good, "x": good["x"].astype(np.float64)}, record={})
    np.testing.assert_array_equal(store.read("x", 0, 4), good["x"])


def test_reads_of_missing_shards_are_refused(uri: str) -> None:
    store = make(uri)
    store.write(store.plan()[0], values(store.plan()[0]), record={})
    assert np.isfinite(store.read("x", 0, 4)).all()
    with pytest.raises(StoreIncomplete, match="shards 1 are missing"):
        store.read("x", 3, 5)
    with pytest.raises(IndexError, match="slice 10 was asked for, .* has 0 to 9"):
        store.read("x", 0, 11)
    with pytest.raises(KeyError, match="no array 'y'"):
        store.read("y", 0, 1)


def test_slices_are_read_by_their_places_in_any_order(uri: str) -> None:
    store = make(uri)
    fill(store)
    whole = store.read("k", 0, 10)
    for places in ([9, 2, 3, 4, 0], [5], [], [3, 3]):
        np.testing.assert_array_equal(store.read_places("k", places), whole[places])
    with pytest.raises(IndexError, match="slice -1 was asked for"):
        store.read_places("k", [0, -1])


def test_a_marker_is_read_once_however_many_places_are_in_its_shard(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(uri)
    fill(store)
    found: list[str] = []

    def counted(uris: Sequence[str]) -> list[bytes | None]:
        found.extend(uris)
        return read_many(uris)

    monkeypatch.setattr("storage.markers.read_many", counted)
    store.read_places("x", [0, 2, 9, 1, 8])
    assert found == [join(uri, "done/0.json"), join(uri, "done/2.json")]


def test_of_a_large_shard_in_a_bucket_only_what_is_wanted_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.encoding.WHOLE_BYTES", 0)
    monkeypatch.setattr("storage.encoding.read_bytes", lambda uri: pytest.fail(f"{uri} was read whole"))
    store = make(f"memory://{tmp_path.name}", n=20, shard_size=16)
    fill(store)
    whole = np.concatenate([values(shard)["x"] for shard in store.plan()])
    for start, stop in [(0, 1), (3, 7), (15, 18), (19, 20)]:
        np.testing.assert_array_equal(store.read("x", start, stop), whole[start:stop])
    uri = join(store.uri, "x/c/0/0/0")
    content = read_bytes(uri)
    for index in (bytes(260), b"\xff" * 260):
        write_bytes(uri, content[:-260] + index)
        with pytest.raises(StoreError, match="x"):
            store.read("x", 0, 1)


def test_a_store_that_remembers_reads_a_marker_once_and_sees_the_same_slices(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(make(uri))
    store = ShardedStore.open(uri, finished=False).remembering()
    first = store.read("x", 0, 3)
    monkeypatch.setattr("storage.markers.read_many", lambda uris: pytest.fail(f"{uris} read again") if uris else [])
    np.testing.assert_array_equal(store.read("x", 0, 3), first)
    store.record(0)


def test_a_plan_may_hold_attributes_that_only_an_earlier_version_kept(uri: str) -> None:
    fill(make(uri, attrs={"recipe": {"a": (1, 2)}, "names": ["a"]}))
    again = make(uri)
    assert (again.pending(), again.attrs["names"]) == ([], ["a"])
    np.testing.assert_array_equal(again.read("x", 0, 4), values(again.plan()[0])["x"])
    with pytest.raises(StoreMismatch, match=r"attrs\.other"):
        make(uri, attrs={"recipe": {"a": (1, 2)}, "other": 1})


def test_gaps_are_nan_to_any_zarr_reader(tmp_path: Path) -> None:
    make(str(tmp_path / "s"))
    group = zarr.open_group(tmp_path / "s", mode="r")
    assert group.attrs["recipe"] == {"a": [1, 2]}
    for name in LAYOUTS:
        array = group[name]
        assert isinstance(array, zarr.Array)
        assert np.isnan(np.asarray(array[0])).all()
        assert array.metadata.dimension_names[0] == "slice"  # type: ignore[union-attr,index]


def test_a_shard_of_fill_values_is_stored_like_any_other(uri: str) -> None:
    store = make(uri, arrays={"x": ArrayLayout((5, 4)), "m": ArrayLayout((3,), "uint8")})
    for shard in store.plan():
        count = shard.stop - shard.start
        empty = {"x": np.full((count, 5, 4), np.nan, np.float32), "m": np.zeros((count, 3), np.uint8)}
        store.write(shard, empty, record={})
    assert store.verify() == []
    assert len(list_names(join(uri, "m/c"))) == 3


def test_threads_that_write_different_shards_lose_nothing(uri: str) -> None:
    store = make(uri, n=61)
    plan = store.plan()

    def work(first: int) -> None:
        for shard in plan[first::4]:
            store.write(shard, values(shard), record={"shard": shard.index})

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.pending() == []
    assert store.verify() == []
    whole = np.concatenate([values(shard)["k"] for shard in plan])
    np.testing.assert_array_equal(store.read("k", 0, 61), whole)
    assert [record["shard"] for record in store.records()] == list(range(16))


def test_many_creators_at_once_agree(uri: str) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            make(uri)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    fill(make(uri))
    assert make(uri).verify() == []


def test_crash_between_values_and_marker_leaves_the_shard_pending(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(uri)
    shard = store.plan()[1]

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("storage.shards.write_json", crash)
        with pytest.raises(KeyboardInterrupt):
            store.write(shard, values(Shard(9, 4, 8)), record={})
    again = ShardedStore.open(uri, finished=False)
    assert shard in again.pending()
    with pytest.raises(StoreIncomplete):
        again.read("x", 4, 8)
    fill(again)
    np.testing.assert_array_equal(again.read("x", 4, 8), values(shard)["x"])


WRITER_OF_ALL = """
import sys
import numpy as np
from storage.plans import restore_plan
from storage.shards import ArrayLayout, ShardedStore
uri, seed = sys.argv[1], int(sys.argv[2])
layouts = {"a": ArrayLayout((16, 16)), "b": ArrayLayout((16, 16))}
store = ShardedStore.create(uri, n=60, shard_size=2, arrays=layouts, attrs={})
for shard in store.plan():
    values = np.full((2, 16, 16), 100 * shard.index + seed, np.float32)
    store.write(shard, {"a": values, "b": values}, record={"seed": seed})
store.finish()
"""


def test_processes_that_fill_one_store_at_once_never_mix_a_shard(tmp_path: Path) -> None:
    """Their last bits may differ: here all bits do, so that a mixture would be seen. A reader reads meanwhile."""
    uri = str(tmp_path / "s")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER_OF_ALL, uri, str(seed)]) for seed in range(3)]
    while any(writer.poll() is None for writer in writers):
        with suppress(StoreNotFound, StoreIncomplete):
            for shard in (store := ShardedStore.open(uri, finished=False)).plan():
                assert (store.read("a", *shard[1:]) == store.read("b", *shard[1:])).all()
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    store = ShardedStore.open(uri)
    assert store.verify() == []
    for shard, record in zip(store.plan(), store.records(), strict=True):
        for name in ("a", "b"):
            assert (store.read(name, shard.start, shard.stop) == 100 * shard.index + record["seed"]).all()


def test_store_travels_as_its_uri(uri: str) -> None:
    store = make(uri)
    text = pickle.dumps(store)
    assert len(text) < 400
    copy = pickle.loads(text)
    fill(copy)
    assert store.pending() == []
    np.testing.assert_array_equal(store.read("x", 0, 10), copy.read("x", 0, 10))


def test_a_relative_place_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = pickle.dumps(make("store"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    fill(pickle.loads(text))
    assert ShardedStore.open(str(tmp_path / "store"), finished=False).pending() == []


WRITER = """
import sys
import numpy as np
from storage.shards import ShardedStore
store = ShardedStore.open(sys.argv[1], finished=False)
for shard in store.plan()[int(sys.argv[2]) :: 2]:
    values = np.random.default_rng(shard.index).standard_normal((shard.stop - shard.start, 64, 64))
    store.write(shard, {"x": values.astype(np.float32)}, record={"shard": shard.index})
    print(shard.index, flush=True)
"""


def test_processes_that_are_killed_leave_only_whole_shards(tmp_path: Path) -> None:
    uri = str(tmp_path / "s")
    store = ShardedStore.create(uri, n=400, shard_size=2, arrays={"x": ArrayLayout((64, 64))}, attrs={})

    def start(part: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WRITER, uri, str(part)], stdout=subprocess.PIPE)

    writers = [start(part) for part in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        writer.kill()
        writer.communicate()
    done = 200 - len(store.pending())
    assert 6 <= done < 200
    assert store.verify() == []
    for shard in store.pending():
        values = np.random.default_rng(shard.index).standard_normal((2, 64, 64)).astype(np.float32)
        store.write(shard, {"x": values}, record={"shard": shard.index})
    store.finish()
    assert store.verify() == []
    for shard in store.plan()[::17]:
        expected = np.random.default_rng(shard.index).standard_normal((2, 64, 64)).astype(np.float32)
        np.testing.assert_array_equal(store.read("x", shard.start, shard.stop), expected)


def test_what_a_killed_writer_leaves_is_gone_when_the_store_is_finished(tmp_path: Path) -> None:
    store = make(str(tmp_path / "s"))
    script = (
        "import os, signal, sys\n"
        "from storage.shards import ShardedStore\n"
        "from tests.storage.sharded import fill\n"
        "n, sync = iter(range(4)), os.fsync\n"
        "os.fsync = lambda file: sync(file) if next(n, None) is not None else os.kill(os.getpid(), signal.SIGKILL)\n"
        "fill(ShardedStore.open(sys.argv[1], finished=False))\n"
    )
    subprocess.run([sys.executable, "-c", script, store.uri], check=False)
    assert len(list(tmp_path.rglob("*.partial"))) == 1
    assert [shard.index for shard in store.pending()] == [1, 2]
    fill(store)
    store.finish()
    assert list(tmp_path.rglob("*.partial")) == []
    assert store.verify() == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this machine lets us mount one."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_is_explained_and_resumable(tiny_disk: Path) -> None:
    ballast = tiny_disk / "ballast"
    store = ShardedStore.create(str(tiny_disk / "s"), n=12, shard_size=4, arrays={"x": ArrayLayout((32, 64))}, attrs={})
    noise = np.random.default_rng(0).standard_normal((12, 32, 64)).astype(np.float32)

    def write_all() -> None:
        for shard in store.pending():
            store.write(shard, {"x": noise[shard.start : shard.stop]}, record={})

    ballast.write_bytes(b"x" * 150_000)
    with pytest.raises(StoreFull, match="resumes"):
        write_all()
    assert 0 < len(store.pending()) < 3
    assert store.verify() == []
    ballast.unlink()
    write_all()
    store.finish()
    np.testing.assert_array_equal(ShardedStore.open(store.uri).read("x", 0, 12), noise)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_quota_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    store = make(str(tmp_path / "s"))

    def full(*_: object) -> None:
        raise OSError(code, "no room")

    monkeypatch.setattr("storage.uri.os.fsync", full)
    with pytest.raises(StoreFull, match=str(tmp_path)):
        store.write(store.plan()[0], values(store.plan()[0]), record={})
    assert len(store.pending()) == 3


def test_a_store_from_before_an_option_is_gone_on_with_and_one_of_another_value_is_refused(tmp_path: Path) -> None:
    """The place is a digest of all options that are not at their default: the new one is at its own."""
    old = {"recipe": {"method": {"kind": "tv", "weight": 1.0}, "seed": 0}}
    new = {"recipe": {"method": {"kind": "tv", "weight": 1.0, "noise": 0.5}, "seed": 0, "calibration": ""}}
    other = {"recipe": {"method": {"kind": "tv", "weight": 2.0, "noise": 0.5}, "seed": 0, "calibration": ""}}
    layout = {"x": ArrayLayout((2,))}
    uri = str(tmp_path / "store")
    store = ShardedStore.create(uri, n=2, shard_size=1, arrays=layout, attrs=old)
    store.write(store.plan()[0], {"x": np.zeros((1, 2), np.float32)}, record={})
    assert len(ShardedStore.create(uri, n=2, shard_size=1, arrays=layout, attrs=new).pending()) == 1
    with pytest.raises(StoreMismatch, match="another plan"):
        ShardedStore.create(uri, n=2, shard_size=1, arrays=layout, attrs=other)
