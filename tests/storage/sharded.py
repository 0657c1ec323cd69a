"""A small sharded store for tests."""

from typing import Any

import numpy as np

from storage.shards import ArrayLayout, Shard, ShardedStore

LAYOUTS = {"x": ArrayLayout((5, 4)), "k": ArrayLayout((2, 5, 4), "complex64")}


def make(uri: str, **changes: Any) -> ShardedStore:
    """The store of ten slices in shards of four, or with other options."""
    options = {"n": 10, "shard_size": 4, "arrays": LAYOUTS, "attrs": {"recipe": {"a": (1, 2)}}}
    return ShardedStore.create(uri, **{**options, **changes})


def values(shard: Shard) -> dict[str, np.ndarray]:
    """What a shard is filled with, by its index."""
    count, rng = shard.stop - shard.start, np.random.default_rng(shard.index)
    x = rng.standard_normal((count, 5, 4)).astype(np.float32)
    k = (rng.standard_normal((count, 2, 5, 4)) + 1j * rng.standard_normal((count, 2, 5, 4))).astype(np.complex64)
    return {"x": x, "k": k}


def fill(store: ShardedStore) -> None:
    """Write what is pending."""
    for shard in store.pending():
        store.write(shard, values(shard), record={"shard": shard.index})
