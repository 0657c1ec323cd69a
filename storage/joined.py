"""A store whose shards lie in other stores: how a data set grows without anything being made again.

A data set that gained a study is the shards that are there already and a new store, its part, for what is new. It
copies nothing: its plan.json names its parts, stores of the same stage beside it, and which of their shards it is made
of. What is measured and reconstructed of it is joined in the same way, of what was made of the parts. To whoever reads,
fills or verifies it, it is a store like others.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, NamedTuple, Self

import numpy as np

from scoreinv.spec import Json
from storage.encoding import ArrayLayout, Files
from storage.errors import StoreHeld
from storage.markers import Markers
from storage.plans import Shard, placed, plan_json
from storage.shards import ShardedStore
from storage.uri import exists, join

PARTS, PIECES = "parts", "pieces"
"""Keys of the plan of a joined store: names of stores beside it; runs of their shards as [part, first, last + 1,
slices]."""


class Piece(NamedTuple):
    """Shards ``first`` (included) to ``last`` (excluded) of a part, which is named by its number."""

    part: int
    first: int
    last: int


class About(NamedTuple):
    """How a store is called by its reference, whose last part is its name within its folder, and its attributes."""

    reference: str
    attrs: Mapping[str, Json]


class JoinedStore(ShardedStore):
    """The shards of other stores as one store; see the module."""

    def __init__(self, uri: str, plan: Mapping[str, Any]) -> None:
        super().__init__(uri, plan)
        self.part_names = [str(name) for name in plan[PARTS]]
        self.pieces = [Piece(part, first, last) for part, first, last, _ in plan[PIECES]]
        self._homes, self._shards = _laid_out(self.pieces, [n for *_, n in plan[PIECES]], self.shard_size)
        self._opened: dict[int, ShardedStore] = {}
        self._markers = _MarkersOfParts(self)

    @classmethod
    def join(
        cls, uri: str, parts: Sequence[ShardedStore], pieces: Sequence[Piece], *, attrs: Mapping[str, Json]
    ) -> Self:
        """The store of these pieces, made if it is not there yet.

        Args:
            uri: of the new store.
            parts: stores in the same folder, with the same arrays.
            pieces: in the order of the new store.
            attrs: of the new store.

        Raises:
            StoreMismatch: if a store with another plan lies in this place.
        """
        plans = [part.plan() for part in parts]
        rows = [
            [*piece, plans[piece.part][piece.last - 1].stop - plans[piece.part][piece.first].start] for piece in pieces
        ]
        shared = plan_json(sum(row[-1] for row in rows), parts[0].shard_size, parts[0].layouts, attrs)
        own = {PARTS: [store.name for store in parts], PIECES: rows}
        plan = placed(uri, dict(sorted((shared | own).items())))
        for part in parts:
            # One that lost a marker is not finished any more.
            if part.pending():
                part._discard_damaged([], reads=False)
        store = cls(uri, plan)
        store._describe(None)
        # A shard of a part may have been found damaged since this was finished.
        store._discard_damaged([], reads=False)
        return store

    def part(self, number: int) -> ShardedStore:
        """The store that holds shards under this number; it may hold others as well, and need not be finished.

        Raises:
            StoreNotFound: if it is gone.
        """
        if number not in self._opened:
            folder = self.uri.rstrip("/").rpartition("/")[0]
            self._opened[number] = ShardedStore.open(join(folder, self.part_names[number]), finished=False)
        return self._opened[number]

    @property
    def parts(self) -> list[ShardedStore]:
        """All stores that hold shards; errors as ``part``."""
        return [self.part(number) for number in range(len(self.part_names))]

    def home(self, shard: Shard) -> tuple[ShardedStore, Shard]:
        """The part that holds a shard, and the shard there; errors as ``part``."""
        number, there = self._homes[shard.index]
        return self.part(number), there

    # ---- what the parts answer --------------------------------------------------------------------------------------

    def remembering(self) -> Self:
        """As ``ShardedStore.remembering``, of each part that is opened."""
        store = type(self)(self.uri, self.whole_plan)
        store._opened = {number: part.remembering() for number, part in self._opened.items()}
        return store

    def plan(self) -> list[Shard]:
        """All shards, in order; any may be shorter than ``shard_size``."""
        return list(self._shards)

    def pending(self) -> list[Shard]:
        """The shards that their parts have yet to make."""
        unmade = {(number, shard.index) for number, part in enumerate(self.parts) for shard in part.pending()}
        pairs = zip(self._shards, self._homes, strict=True)
        return [shard for shard, (number, there) in pairs if (number, there.index) in unmade]

    def shard_at(self, place: int) -> Shard:
        """The shard that holds a slice."""
        return self._shards[bisect_right(self._shards, place, key=lambda shard: shard.stop)]

    def origin(self, shard: Shard) -> str:
        """The name of the part that holds a shard."""
        return self.part_names[self._homes[shard.index][0]]

    def write(self, shard: Shard, arrays: Mapping[str, np.ndarray], *, record: Mapping[str, Json]) -> None:
        """Writes a shard where it belongs; as ``ShardedStore.write``."""
        self._refuse_foreign(shard)
        part, there = self.home(shard)
        part.write(there, arrays, record=record)

    def read_places(self, name: str, places: Sequence[int]) -> np.ndarray:
        """Slices of an array by their places; as ``ShardedStore.read_places``."""
        self._refuse_strange(places)
        shards = [self.shard_at(place) for place in places]
        values = []
        for number, group in groupby(zip(shards, places, strict=True), key=lambda pair: self._homes[pair[0].index][0]):
            inner = [self._homes[shard.index][1].start + place - shard.start for shard, place in group]
            values.append(self.part(number).read_places(name, inner))
        return np.concatenate(values) if values else np.empty((0, *self.layouts[name].shape), self.layouts[name].dtype)

    def finish(self, *, manifest: Mapping[str, Json] | None = None) -> None:
        """Marks this store as finished, and every part that is complete; as ``ShardedStore.finish``."""
        for part in self.parts:
            if not part.is_finished() and not part.pending():
                # One that another process works on is that one's to finish.
                with suppress(StoreHeld):
                    part.finish()
        super().finish(manifest=manifest)

    def repair(self) -> None:
        """As ``ShardedStore.repair``, of the parts."""
        for part in self.parts:
            part.repair()
        self._describe(None)
        self._discard_damaged([], reads=True)

    def _problems_of(self, shard: Shard, *, reads: bool) -> list[str]:
        part, there = self.home(shard)
        return part._problems_of(there, reads=reads)

    @property
    def _array_files(self) -> Files:  # type: ignore[override]
        return {}


class _MarkersOfParts(Markers):
    """The markers of a joined store, which lie in its parts."""

    def __init__(self, store: JoinedStore) -> None:
        super().__init__(store.uri, "")
        self.store = store

    def uri_of(self, shard: Shard) -> str:
        part, there = self.store.home(shard)
        return part._markers.uri_of(there)

    def read(self, shard: Shard) -> dict[str, Any]:
        part, there = self.store.home(shard)
        return part._markers.read(there)

    def read_all(self, name: str, shards: Iterable[Shard]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        homes = (self.store.home(shard) for shard in shards)
        for _, group in groupby(homes, key=lambda home: home[0].name):
            part_shards = list(group)
            found += part_shards[0][0]._markers.read_all(name, [there for _, there in part_shards])
        return found


def _laid_out(
    pieces: Sequence[Piece], sizes: Sequence[int], shard_size: int
) -> tuple[list[tuple[int, Shard]], list[Shard]]:
    """The part and the shard there of each shard of a joined store, and these shards themselves.

    Args:
        pieces: the runs of shards.
        sizes: slices of each of them; only the last shard of a piece may be short.
        shard_size: slices of a whole shard.
    """
    homes: list[tuple[int, Shard]] = []
    shards: list[Shard] = []
    for (part, first, last), size in zip(pieces, sizes, strict=True):
        end = first * shard_size + size
        for index in range(first, last):
            there = Shard(index, index * shard_size, min((index + 1) * shard_size, end))
            start = shards[-1].stop if shards else 0
            homes.append((part, there))
            shards.append(Shard(len(shards), start, start + there.stop - there.start))
    return homes, shards


def open_store(uri: str, *, finished: bool = True) -> ShardedStore:
    """The store at a URI, joined or not; errors as ``ShardedStore.open``."""
    store = ShardedStore.open(uri, finished=False)
    if PARTS in store.whole_plan:
        store = JoinedStore(uri, store.whole_plan)
    if finished:
        store.require_finished()
    return store


def part_of(store: ShardedStore, part: int | None) -> ShardedStore:
    """The part of this number of a joined store; the store itself for None."""
    return store if part is None or not isinstance(store, JoinedStore) else store.parts[part]


def parts_of(store: ShardedStore) -> list[ShardedStore]:
    """The parts of a joined store; none of another."""
    return store.parts if isinstance(store, JoinedStore) else []


def create_alike(
    model: ShardedStore, uri: str, arrays: Mapping[str, ArrayLayout], about: Callable[[int | None], About]
) -> ShardedStore:
    """A store of as many slices in the same shards as another one, made if it is not there yet, else to be resumed.

    Args:
        model: the store whose shards are worked on, joined or not.
        uri: of the new store; parts lie beside it.
        arrays: of the new store.
        about: the new store for None, and what is made of the model's part of this number.

    Raises:
        StoreMismatch: if a store with another plan lies in a place.
    """
    if not isinstance(model, JoinedStore):
        return _made(model, uri, arrays, about(None).attrs)
    abouts = [about(number) for number in range(len(model.parts))]
    folder = uri.rstrip("/").rpartition("/")[0]
    pairs = zip(model.parts, abouts, strict=True)
    parts = [_part(part, join(folder, ref.rpartition("/")[2]), arrays, attrs) for part, (ref, attrs) in pairs]
    return JoinedStore.join(uri, parts, model.pieces, attrs=about(None).attrs)


def _part(model: ShardedStore, uri: str, arrays: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]) -> ShardedStore:
    # Of one that is finished not every byte is looked at once more each time that a data set grows.
    if exists(join(uri, "_SUCCESS")):
        return ShardedStore.open(uri)
    return _made(model, uri, arrays, attrs)


def _made(model: ShardedStore, uri: str, arrays: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]) -> ShardedStore:
    return ShardedStore.create(uri, n=model.n, shard_size=model.shard_size, arrays=arrays, attrs=attrs)
