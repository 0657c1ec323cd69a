"""Damaged stores: what is seen, and made again alone."""

import shutil
from pathlib import Path

import pytest

from storage.errors import StoreError, StoreMismatch
from storage.plans import plan_problem, restore_plan
from storage.shards import ShardedStore
from storage.uri import delete, join, read_json, write_bytes, write_json
from storage.verify import discard_damaged
from tests.storage.sharded import fill, make


@pytest.mark.parametrize("position", [0.1, 0.5, 0.9])
def test_a_flipped_byte_is_found_and_its_shard_is_named(tmp_path: Path, position: float) -> None:
    store = make(str(tmp_path / "s"))
    fill(store)
    damaged = tmp_path / "s/x/c/1/0/0"
    content = bytearray(damaged.read_bytes())
    content[int(len(content) * position)] ^= 0x10
    damaged.write_bytes(content)
    (problem,) = store.verify()
    assert "shard 1 " in problem
    assert "'x'" in problem
    with pytest.raises(StoreError, match="damaged"):
        ShardedStore.open(store.uri, finished=False).read("x", 0, 10)
    store.repair()
    assert store.pending() == [store.plan()[1]]
    fill(store)
    assert store.verify() == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x10
    path.write_bytes(content)


def _exchange(path: Path) -> None:
    """With the same file of another shard."""
    other = Path(str(path).replace("/c/0/", "/c/1/").replace("done/0.", "done/1."))
    mine, others = path.read_bytes(), other.read_bytes()
    path.write_bytes(others)
    other.write_bytes(mine)


DAMAGES = {"empty": _empty, "gone": Path.unlink, "cut": _cut, "flipped": _flip, "exchanged": _exchange}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["k/c/0/0/0/0", "done/0.json"])
def test_damaged_shards_are_seen_and_made_again_alone(tmp_path: Path, name: str, damage: str) -> None:
    store = make(str(tmp_path / "s"))
    fill(store)
    store.finish(manifest={"x": 1})
    digest = store.content_digest()
    DAMAGES[damage](tmp_path / "s" / name)
    problems = store.verify()
    assert problems
    assert any(where in problem for problem in problems for where in ("shard 0 ", "shards 0 ", "done/0.json"))
    with pytest.raises(StoreError):
        store.read("k", 0, store.n)
    # The byte is in the second slice.
    if damage != "flipped" or name.startswith("done"):
        with pytest.raises(StoreError):
            store.read("k", 0, 1)
    again = make(store.uri)
    assert not again.is_finished()
    assert {shard.index for shard in again.pending()} == ({0, 1} if damage == "exchanged" else {0})
    fill(again)
    again.finish(manifest={"x": 1})
    assert (again.verify(), again.content_digest()) == ([], digest)


@pytest.mark.parametrize("damage", ["empty", "gone", "flipped"])
@pytest.mark.parametrize("name", ["manifest.json", "_SUCCESS", "zarr.json", "x/zarr.json", "plan.json"])
def test_damaged_descriptions_are_seen_and_put_anew_without_any_work(tmp_path: Path, name: str, damage: str) -> None:
    store = make(str(tmp_path / "s"))
    fill(store)
    store.finish(manifest={"x": 1})
    DAMAGES[damage](tmp_path / "s" / name)
    if name == "plan.json":
        with pytest.raises(StoreError):
            ShardedStore.open(store.uri)
    elif (name, damage) != ("_SUCCESS", "gone"):
        assert name in "".join(store.verify())
    again = make(store.uri)
    assert again.pending() == []
    if not again.is_finished():
        again.finish(manifest={"x": 1})
    assert (again.verify(), again.manifest()) == ([], {"x": 1})


def test_a_large_store_is_looked_at_quickly(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sizes of its files, which shows what is lost or empty, and by no byte."""
    store = make(uri)
    fill(store)
    store.finish()
    for name in ("x/c/0/0/0", "done/2.json"):
        write_bytes(join(uri, name), b"")
    monkeypatch.setattr("storage.shards.CHECKED_AT_START", 0)
    assert [shard.index for shard in make(uri).pending()] == [0, 2]


def test_a_plan_that_is_lost_is_restored_from_its_copy(uri: str) -> None:
    store = make(uri)
    plan = read_json(join(uri, "plan.json"))
    for content in (b"", b'{"n": 3}'):
        write_bytes(join(uri, "plan.json"), content)
        assert restore_plan(uri)
        assert read_json(join(uri, "plan.json")) == plan
    delete(join(uri, "plan.json"))
    delete(join(uri, "zarr.json"))
    assert not restore_plan(uri)
    assert make(uri).plan() == store.plan()


def test_a_plan_that_was_exchanged_is_seen_and_restored(tmp_path: Path) -> None:
    """By what two of plan, copy, markers and whoever makes the store say; else it is another store."""
    stores = [make(str(tmp_path / name), n=n) for name, n in (("a", 10), ("b", 6), ("c", 7))]
    for store in stores[:2]:
        fill(store)
    plans = [tmp_path / name / "plan.json" for name in "abc"]
    contents = [plan.read_bytes() for plan in plans]
    for mend in (lambda: restore_plan(stores[0].uri), lambda: make(stores[0].uri, n=10)):
        plans[0].write_bytes(contents[1])
        assert plan_problem(stores[0].uri) == f"{plans[0]} is another store's"
        mend()
        assert plans[0].read_bytes() == contents[0]
        assert ShardedStore.open(stores[0].uri, finished=False).verify() == []
    assert [plan_problem(store.uri) for store in stores] == ["", "", ""]
    plans[2].write_bytes(contents[1])
    with pytest.raises(StoreMismatch, match="choose another place, or remove it"):
        make(stores[2].uri, n=8)
    make(stores[2].uri, n=7)
    assert plans[2].read_bytes() == contents[2]


def test_a_plan_that_was_exchanged_and_has_no_copy_is_put_anew_by_who_made_it(tmp_path: Path) -> None:
    store = make(str(tmp_path / "a"))
    make(str(tmp_path / "b"), n=6)
    fill(store)
    plan = tmp_path / "a" / "plan.json"
    content = plan.read_bytes()
    plan.write_bytes((tmp_path / "b" / "plan.json").read_bytes())
    (tmp_path / "a" / "zarr.json").write_text("{")
    assert plan_problem(store.uri) == f"{plan} is another store's"
    with pytest.raises(StoreError, match="run the command that made the store again"):
        discard_damaged("measurements", store.uri)
    again = make(store.uri, n=10)
    assert (plan.read_bytes(), again.pending(), again.verify()) == (content, [], [])
    # A copy that is another store's is of no use.
    plan.unlink()
    (tmp_path / "a" / "zarr.json").write_bytes((tmp_path / "b" / "zarr.json").read_bytes())
    assert not restore_plan(store.uri)
    assert make(store.uri, n=10).verify() == []


def test_a_shard_of_another_store_is_no_shard_of_this(tmp_path: Path) -> None:
    """Object and marker fit each other, but not the plan."""
    stores = [make(str(tmp_path / name), attrs={"name": name}) for name in "ab"]
    for store in stores:
        fill(store)
    shutil.copy(tmp_path / "a" / "done" / "1.json", tmp_path / "b" / "done" / "1.json")
    assert stores[1].verify() == [f"{tmp_path}/b/done/1.json is the marker of another shard"]


def test_a_store_of_an_earlier_version_is_made_again(uri: str) -> None:
    fill(make(uri))
    plan = read_json(join(uri, "plan.json"))
    write_json(join(uri, "plan.json"), {**plan, "format": "scoreinv-shards-1"})
    with pytest.raises(StoreMismatch, match="run the command that makes it again"):
        ShardedStore.open(uri)
    fill(make(uri))
    assert ShardedStore.open(uri, finished=False).verify() == []


def test_a_plan_that_is_another_kind_of_file_is_damaged_and_mended(tmp_path: Path) -> None:
    store = make(str(tmp_path / "store"))
    fill(store)
    store.finish()
    (tmp_path / "store" / "plan.json").write_bytes((tmp_path / "store" / "_SUCCESS").read_bytes())
    with pytest.raises(StoreError, match=r"plan.json is damaged: it holds something else; `scoreinv repair"):
        ShardedStore.open(store.uri)
    assert plan_problem(store.uri).endswith("plan.json is damaged")
    assert restore_plan(store.uri)
    assert ShardedStore.open(store.uri).verify() == []
