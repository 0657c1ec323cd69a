"""How a listing is divided into shards that are there and slices that are to be made."""

import shutil
from pathlib import Path

from storage.growth import KnownStore, divided, keys_of, known_stores, register
from storage.joined import Piece
from storage.listing import Listing, SliceRecord
from tests.storage.sharded import fill, make


def known(uri: str, *shards: str, since: float = 0.0) -> KnownStore:
    """A store whose slices are called by letters."""
    return KnownStore(uri, since, [list(shard) for shard in shards], {}, is_finished=True)


def test_whole_shards_of_wanted_slices_are_taken() -> None:
    division = divided([known("one", "abcd", "efgh", "ij")], "abcdefghxij")
    assert division.pieces == [Piece(0, 0, 3)]
    assert division.rest == [8]


def test_a_shard_that_holds_anything_else_is_not() -> None:
    division = divided([known("one", "abcd", "efgh", "ij")], "abcdefhij")
    assert division.pieces == [Piece(0, 0, 1), Piece(0, 2, 3)]
    assert [("abcdefhij")[place] for place in division.rest] == ["e", "f", "h"]


def test_no_slice_is_taken_twice_and_large_stores_go_first() -> None:
    small, large = known("small", "ab", since=1), known("large", "abc", "def", since=2)
    division = divided([small, large], "abcdef")
    assert [one.uri for one in division.stores] == ["large"]
    assert (division.pieces, division.rest) == ([Piece(0, 0, 2)], [])


def test_pieces_come_in_the_order_in_which_stores_were_made() -> None:
    first, second = known("first", "a", since=1), known("second", "bc", "de", since=2)
    division = divided([first, second], "bcdea")
    assert [one.uri for one in division.stores] == ["first", "second"]
    assert division.pieces == [Piece(0, 0, 1), Piece(1, 0, 2)]


def test_nothing_known_leaves_everything_to_be_made() -> None:
    assert divided([], "abc").rest == [0, 1, 2]


def listing(checksum: str = "c", spacing: float = 1.0) -> Listing:
    record = SliceRecord(
        slice_id="s",
        volume_id="v",
        subject_id="p",
        file="f",
        index=0,
        position_mm=0.0,
        spacing_mm=(1.0, 1.0),
        shape=(4, 4),
        checksum=checksum,
    )
    return Listing(slices=(record,), volumes={"v": {"units": "HU", "slice_spacing_mm": spacing}})


def test_a_key_follows_from_values_and_geometry() -> None:
    assert keys_of(listing()) == keys_of(listing())
    assert len({keys_of(one)[0] for one in (listing(), listing(checksum="d"), listing(spacing=2.0))}) == 3


def test_what_is_known_is_of_stores_that_are_there(tmp_path: Path) -> None:
    store = make(str(tmp_path / "datasets" / "one"))
    fill(store)
    store.finish()
    folder = str(tmp_path / "known")
    register(folder, store, list("abcdefghij"), {"x": "black"})
    (found,) = known_stores(folder, str(tmp_path / "datasets"))
    assert (found.uri, found.empty) == (store.uri, {"x": "black"})
    assert found.shards == [list("abcd"), list("efgh"), list("ij")]
    (tmp_path / "known" / "one.json").write_text("{}")
    assert known_stores(folder, str(tmp_path / "datasets")) == []
    (tmp_path / "known" / "one.json").unlink()
    register(folder, store, list("abcdefghij"), {})
    (tmp_path / "datasets" / "one" / "_SUCCESS").unlink()
    assert [one.is_finished for one in known_stores(folder, str(tmp_path / "datasets"))] == [False]
    shutil.rmtree(tmp_path / "datasets" / "one")
    assert known_stores(folder, str(tmp_path / "datasets")) == []
