"""A store whose shards lie in other stores: how a data set grows without anything being made again.

A data set that gained a study is the shards that are there already and a new store, its part, for what is new. It
copies nothing: its plan.json names its parts, stores of the same stage beside it, and which of their shards it is made
of. What is measured and reconstructed of it is joined in the same way, of what was made of the parts. To whoever reads,
fills or verifies it, it is a store like others.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple, Self

import numpy as np

from scoreinv.spec import Json
from storage.encoding import ArrayLayout, Files
from storage.plans import Shard, plan_json, read_if_whole, refuse_other_plan
from storage.shards import ShardedStore
from storage.uri import create_bytes, exists, join, json_bytes, sealed, write_json

PARTS, PIECES = "parts", "pieces"
"""Keys of the plan of a joined store: names of stores beside it; runs of their shards as [part, first, last + 1]."""


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
        self.pieces = [Piece(*piece) for piece in plan[PIECES]]
        self.part_names = [str(name) for name in plan[PARTS]]

    @cached_property
    def parts(self) -> list[ShardedStore]:
        """The stores that hold the shards; each may hold others as well, and need not be finished.

        Raises:
            StoreNotFound: if one is gone.
        """
        folder = self.uri.rstrip("/").rpartition("/")[0]
        return [ShardedStore.open(join(folder, name), finished=False) for name in self.part_names]

    @classmethod
    def join(
        cls, uri: str, parts: Sequence[ShardedStore], pieces: Sequence[Piece], *, attrs: Mapping[str, Json]
    ) -> Self:
        """The store of these pieces, made if it is not there yet.

        Args:
            parts: stores in the same folder, with the same arrays.

        Raises:
            StoreMismatch: if a store with another plan lies in this place.
        """
        n = sum(parts[part].plan()[i].stop - parts[part].plan()[i].start for part, a, b in pieces for i in range(a, b))
        shared = plan_json(n, parts[0].shard_size, parts[0].layouts, attrs)
        plan = {**shared, PARTS: [store.name for store in parts], PIECES: [list(piece) for piece in pieces]}
        plan_uri = join(uri, "plan.json")
        if exists(plan_uri) or not create_bytes(plan_uri, json_bytes(sealed(plan))):
            if (found := read_if_whole(plan_uri)) is None:
                write_json(plan_uri, sealed(plan))
            else:
                refuse_other_plan(uri, found, plan)
        return cls(uri, plan)

    # ---- what the parts answer --------------------------------------------------------------------------------------

    @cached_property
    def _homes(self) -> list[tuple[int, Shard]]:
        """The part and the shard there that each of this store's shards is."""
        return [(part, self.parts[part].plan()[i]) for part, first, last in self.pieces for i in range(first, last)]

    @cached_property
    def _plan_of_all(self) -> list[Shard]:
        sizes = [shard.stop - shard.start for _, shard in self._homes]
        ends = np.cumsum(sizes).tolist()
        return [Shard(i, end - size, end) for i, (size, end) in enumerate(zip(sizes, ends, strict=True))]

    def plan(self) -> list[Shard]:
        """All shards, in order; any may be shorter than ``shard_size``."""
        return self._plan_of_all

    def pending(self) -> list[Shard]:
        """The shards that their parts have yet to make."""
        open_shards = {
            (number, shard.index)
            for number, part in enumerate(self.parts)
            if not part.is_finished()
            for shard in part.pending()
        }
        pairs = zip(self.plan(), self._homes, strict=True)
        return [shard for shard, (part, home) in pairs if (part, home.index) in open_shards]

    def shard_at(self, place: int) -> Shard:
        """The shard that holds a slice."""
        ends = [shard.stop for shard in self.plan()]
        return self.plan()[int(np.searchsorted(ends, place, side="right"))]

    def origin(self, shard: Shard) -> str:
        """The name of the part that holds a shard."""
        return self.part_names[self._homes[shard.index][0]]

    def write(self, shard: Shard, arrays: Mapping[str, np.ndarray], *, record: Mapping[str, Json]) -> None:
        """Writes a shard where it belongs; as ``ShardedStore.write``."""
        self._refuse_foreign(shard)
        part, home = self._home(shard)
        part.write(home, arrays, record=record)

    def read_places(self, name: str, places: Sequence[int]) -> np.ndarray:
        """Slices of an array by their places; as ``ShardedStore.read_places``."""
        if not places:
            return np.empty((0, *self.layouts[name].shape), self.layouts[name].dtype)
        self._refuse_strange(places)
        shards = [self.shard_at(place) for place in places]
        values = []
        for number, group in groupby(zip(shards, places, strict=True), key=lambda pair: self._homes[pair[0].index][0]):
            inner = [self._homes[shard.index][1].start + place - shard.start for shard, place in group]
            values.append(self.parts[number].read_places(name, inner))
        return np.concatenate(values)

    def finish(self, *, manifest: Mapping[str, Json] | None = None) -> None:
        """Marks this store as finished, and every part that is complete; as ``ShardedStore.finish``."""
        for part in self.parts:
            if not part.is_finished() and not part.pending():
                part.finish()
        super().finish(manifest=manifest)

    def repair(self) -> None:
        """As ``ShardedStore.repair``, of the parts."""
        for part in self.parts:
            part.repair()
        self._discard_damaged([], reads=True)

    def _home(self, shard: Shard) -> tuple[ShardedStore, Shard]:
        number, home = self._homes[shard.index]
        return self.parts[number], home

    def _problems_of(self, shard: Shard, *, reads: bool) -> list[str]:
        part, home = self._home(shard)
        return part._problems_of(home, reads=reads)

    def _marker(self, shard: Shard) -> dict[str, Any]:
        part, home = self._home(shard)
        return part._marker(home)

    @property
    def _array_files(self) -> Files:  # type: ignore[override]
        return {}

    @property
    def _group_file(self) -> Files:
        return {}


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
