"""Stores on a worker; what is large and the same for every shard is read once per process."""

from functools import lru_cache

from storage.datasets import DatasetStore


def open_dataset(uri: str, *, finished: bool = True) -> DatasetStore:
    """The data set at a URI; errors as ``DatasetStore.open``."""
    fresh = DatasetStore.open(uri, finished=finished)
    return _with_listing(uri, str(fresh.shards.attrs["listing"]))


# A listing of 100 000 slices takes longer to read than a shard takes to measure; its fingerprint says when it is new.
@lru_cache(maxsize=2)
def _with_listing(uri: str, fingerprint: str) -> DatasetStore:
    return DatasetStore.open(uri, finished=False)
