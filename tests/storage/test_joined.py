"""A store whose shards lie in others is read, filled, verified and mended as any other."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from storage.errors import StoreError, StoreIncomplete, StoreMismatch, StoreNotFound
from storage.joined import About, JoinedStore, Piece, create_alike, open_store, parts_of
from storage.plans import plan_problem, restore_plan
from storage.shards import ShardedStore
from storage.uri import delete, join, read_bytes, write_bytes
from tests.storage.sharded import LAYOUTS, fill, make, values

PIECES = [Piece(0, 1, 3), Piece(1, 0, 1)]
"""Slices 4 to 10 of ten, and the first four of six."""


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path}"


def parts(folder: str) -> list[ShardedStore]:
    return [make(join(folder, "one")), make(join(folder, "two"), n=6)]


def joined(folder: str, *, filled: bool = True) -> JoinedStore:
    stores = parts(folder)
    store = JoinedStore.join(join(folder, "both"), stores, PIECES, attrs={"recipe": 1})
    for part in stores if filled else []:
        fill(part)
    return store


def contents(folder: str) -> np.ndarray:
    one, two = parts(folder)
    return np.concatenate([one.read("x", 4, 10), two.read("x", 0, 4)])


def test_its_slices_are_those_of_the_pieces(folder: str) -> None:
    store = joined(folder)
    store.finish()
    again = open_store(store.uri)
    assert (again.n, len(again.plan()), again.attrs) == (10, 3, {"recipe": 1})
    assert [(shard.start, shard.stop) for shard in again.plan()] == [(0, 4), (4, 6), (6, 10)]
    expected = contents(folder)
    np.testing.assert_array_equal(again.read("x", 0, 10), expected)
    places = [9, 3, 4, 5, 0, 8]
    np.testing.assert_array_equal(again.read_places("x", places), expected[places])
    assert again.read_places("x", []).shape == (0, 5, 4)
    assert [record["shard"] for record in again.records()] == [1, 2, 0]
    assert [again.origin(shard) for shard in again.plan()] == ["one", "one", "two"]
    assert [again.shard_at(place).index for place in (0, 3, 4, 5, 6, 9)] == [0, 0, 1, 1, 2, 2]
    with pytest.raises(IndexError, match="slice 10 was asked for"):
        again.read("x", 0, 11)


def test_it_is_filled_as_one_store(folder: str) -> None:
    store = joined(folder, filled=False)
    assert store.pending() == store.plan()
    with pytest.raises(StoreIncomplete, match="3 of 3 shards are missing"):
        open_store(store.uri)
    for shard in store.pending():
        store.write(shard, {name: of[: shard.stop - shard.start] for name, of in values(shard).items()}, record={})
    store.finish()
    one, two = (open_store(join(folder, name), finished=False) for name in ("one", "two"))
    # Shards that belong to no piece are nobody's business.
    assert [shard.index for shard in one.pending()] == [0]
    assert [shard.index for shard in two.pending()] == [1]
    np.testing.assert_array_equal(open_store(store.uri).read("x", 0, 10), contents_of(one, two))


def contents_of(one: ShardedStore, two: ShardedStore) -> np.ndarray:
    return np.concatenate([one.read("x", 4, 10), two.read("x", 0, 4)])


def test_it_finishes_its_parts(folder: str) -> None:
    store = joined(folder)
    store.finish()
    assert all(part.is_finished() for part in parts_of(open_store(store.uri)))


def test_what_is_made_of_it_is_joined_alike(folder: str) -> None:
    store, target = joined(folder), join(folder, "results", "whole")
    arrays = {"y": LAYOUTS["x"]}

    def about(part: int | None) -> About:
        return About(f"part-{part}", {"of": part})

    made = create_alike(store, target, arrays, about)
    assert made.plan() == store.plan()
    for shard in made.pending():
        made.write(shard, {"y": store.read("x", shard.start, shard.stop)}, record={})
    made.finish()
    np.testing.assert_array_equal(open_store(target).read("y", 0, 10), contents(folder))
    assert [part.name for part in parts_of(made)] == ["part-0", "part-1"]
    assert create_alike(store, target, arrays, about).pending() == []


def test_a_worker_gets_it_by_its_uri(tmp_path: Path) -> None:
    store = joined(str(tmp_path))
    assert isinstance(pickle.loads(pickle.dumps(store)), JoinedStore)


def test_damage_in_a_part_is_found_and_mended(tmp_path: Path) -> None:
    store = joined(str(tmp_path))
    store.finish()
    assert open_store(store.uri).verify() == []
    (tmp_path / "one" / "x" / "c" / "2" / "0" / "0").write_bytes(b"")
    store = open_store(store.uri)
    assert any("shard 2" in problem and "one" in problem for problem in store.verify())
    with pytest.raises(StoreError, match="repair .*one"):
        store.read("x", 4, 6)
    store.repair()
    assert [shard.index for shard in store.pending()] == [1]
    assert not open_store(store.uri, finished=False).is_finished()


def test_a_plan_that_is_lost_or_exchanged_is_put_anew(folder: str) -> None:
    store = joined(folder)
    store.finish()
    other = JoinedStore.join(join(folder, "other"), parts(folder), PIECES[:1], attrs={"recipe": 1})
    plan, others = (read_bytes(join(one.uri, "plan.json")) for one in (store, other))
    delete(join(store.uri, "plan.json"))
    assert restore_plan(store.uri)
    assert read_bytes(join(store.uri, "plan.json")) == plan
    write_bytes(join(store.uri, "plan.json"), others)
    assert "another store's" in plan_problem(store.uri)
    # Of one that is not finished only whoever makes it knows.
    write_bytes(join(other.uri, "plan.json"), plan)
    again = JoinedStore.join(other.uri, parts(folder), PIECES[:1], attrs={"recipe": 1})
    assert again.whole_plan == other.whole_plan
    assert joined(folder, filled=False).whole_plan == store.whole_plan


def test_other_pieces_in_its_place_are_refused(folder: str) -> None:
    store = joined(folder)
    with pytest.raises(StoreMismatch, match="pieces"):
        JoinedStore.join(store.uri, parts(folder), PIECES[:1], attrs={"recipe": 1})


def test_a_part_that_is_gone_is_named(tmp_path: Path) -> None:
    store = joined(str(tmp_path))
    store.finish()
    (tmp_path / "two" / "plan.json").unlink()
    with pytest.raises(StoreNotFound, match="two"):
        open_store(store.uri).read("x", 0, 10)


@pytest.mark.parametrize("lost", [["done/2.json", "_SUCCESS"], ["done/2.json"]])
def test_a_shard_that_was_taken_from_a_part_is_pending_again(folder: str, lost: list[str]) -> None:
    store = joined(folder)
    store.finish()
    for name in lost:
        delete(join(folder, "one", name))
    assert not store.is_whole()
    again = joined(folder, filled=False)
    assert not again.is_finished()
    assert [shard.index for shard in again.pending()] == [1]
