"""Which slices the shards of a workspace hold, so that a data set that grew is made of what is there and what is new.

For every data set that was made as one store, a file names its slices, shard by shard, by digests of all that decides
their images: where a slice was found, its values, and the geometry of its volume. A shard of which every slice is
wanted is taken as it is.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scoreinv.spec import Json, digest_of
from storage.errors import StoreError
from storage.joined import Piece
from storage.listing import Listing
from storage.shards import ShardedStore
from storage.uri import exists, join, list_names, read_sealed, sealed, write_json


class KnownStore(NamedTuple):
    """A data set that was made as one store."""

    uri: str
    since: float
    """When it was finished, in seconds since 1970: its shards come before those of later ones."""
    shards: list[list[str]]
    """The keys of the slices of each shard."""
    empty: dict[str, str]
    """Slices of volumes that showed nothing, by their keys, with the reason."""
    is_finished: bool
    """False: a shard was found damaged since."""


class Division(NamedTuple):
    """A listing as shards that are there, and the places of the slices that are to be made."""

    stores: list[KnownStore]
    pieces: list[Piece]
    """The first number of each counts among ``stores``."""
    rest: list[int]


def keys_of(listing: Listing) -> list[str]:
    """12 hexadecimal digits for each slice, which follow from all that decides its image but the grid."""
    volumes = {name: digest_of(geometry) for name, geometry in listing.volumes.items()}
    return [digest_of(one.model_dump(mode="json"), volumes[one.volume_id]) for one in listing.slices]


def register(folder: str, store: ShardedStore, keys: Sequence[str], empty: Mapping[str, str]) -> None:
    """Remembers what a finished store holds.

    Args:
        folder: of what is known of the data sets of one grid.
        keys: of its slices, in order.
        empty: keys of slices that were left out since their volumes showed nothing, with the reason.
    """
    shards: list[Json] = [list(keys[shard.start : shard.stop]) for shard in store.plan()]
    uri = join(folder, f"{store.name}.json")
    if not exists(uri):
        write_json(uri, sealed({"since": time.time(), "shards": shards, "empty": dict(empty)}))


def known_stores(folder: str, datasets: str) -> list[KnownStore]:
    """The stores in a folder of data sets that are remembered and still there, whole or not, the first one first."""
    found = [_read(join(folder, name), join(datasets, name.removesuffix(".json"))) for name in list_names(folder)]
    return sorted((one for one in found if one), key=lambda one: (one.since, one.uri))


def divided(known: Sequence[KnownStore], keys: Sequence[str]) -> Division:
    """Every slice in one shard that is there, or among those to be made; of large stores first, for few parts.

    Args:
        known: finished stores.
        keys: of the slices, in order.
    """
    wanted = {key: place for place, key in enumerate(keys)}
    taken: dict[str, list[int]] = {}
    for one in sorted(known, key=lambda one: -len(one.shards)):
        for index, shard in enumerate(one.shards):
            if shard and wanted.keys() >= set(shard):
                taken.setdefault(one.uri, []).append(index)
                for key in shard:
                    del wanted[key]
    stores = [one for one in known if one.uri in taken]
    pieces = [piece for number, one in enumerate(stores) for piece in _pieces(number, taken[one.uri])]
    return Division(stores, pieces, sorted(wanted.values()))


def _pieces(part: int, indices: Sequence[int]) -> list[Piece]:
    pieces: list[Piece] = []
    for index in indices:
        if pieces and pieces[-1].last == index:
            pieces[-1] = pieces[-1]._replace(last=index + 1)
        else:
            pieces.append(Piece(part, index, index + 1))
    return pieces


def _read(uri: str, store: str) -> KnownStore | None:
    """None of a store that is gone, or of which it is no longer known what it holds: its slices are made again."""
    try:
        found: dict[str, Any] = read_sealed(uri)
    except StoreError:
        return None
    is_finished = exists(join(store, "_SUCCESS"))
    if not is_finished and not list_names(store):
        return None
    return KnownStore(store, found["since"], found["shards"], found["empty"], is_finished)
