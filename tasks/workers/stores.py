"""Stores on a worker; what is large and the same for every shard is read once per process."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from scoreinv.contract import ImageContract
from scoreinv.measurement import Measured
from storage.datasets import DatasetStore
from storage.errors import StoreMismatch
from storage.shards import ShardedStore

CONTEXT = "context_"
"""Begins the names of the arrays in a store of measurements that hold what the operator needs of each slice."""


def open_dataset(uri: str, *, finished: bool = True) -> DatasetStore:
    """The data set at a URI; errors as ``DatasetStore.open``."""
    fresh = DatasetStore.open(uri, finished=finished)
    return _with_listing(uri, str(fresh.shards.attrs["listing"]))


def read_slices(store: ShardedStore, name: str, places: Sequence[int]) -> np.ndarray:
    """Slices of an array by their places, in the given order; neighbours are read at once."""
    runs = np.split(np.asarray(places), np.flatnonzero(np.diff(places) != 1) + 1)
    return np.concatenate([store.read(name, int(run[0]), int(run[-1]) + 1) for run in runs])


def read_measured(store: ShardedStore, places: Sequence[int]) -> Measured:
    """The data of slices and their noise, by their places in a store of measurements, in the given order.

    Raises:
        StoreMismatch: if the store was filled by a version that kept one noise level for all slices.
    """
    if "noise_std" not in store.layouts:
        raise StoreMismatch(
            f"{store.uri} was measured by an earlier version, with one noise level for all slices: run measure again "
            "and use the measurements it names"
        )
    y, noise_std = (torch.from_numpy(read_slices(store, name, places)) for name in ("y", "noise_std"))
    names = [name for name in store.layouts if name.startswith(CONTEXT)]
    context = {name[len(CONTEXT) :]: torch.from_numpy(read_slices(store, name, places)) for name in names}
    return Measured(y, noise_std, context)


def as_images(values: np.ndarray, image: ImageContract) -> torch.Tensor:
    """Images (batch, n_channels, height, width) of what a store holds (n, *image.stored_shape()), also if finer."""
    return torch.from_numpy(values).reshape(len(values), image.n_channels, *values.shape[-2:])


# A listing of 100 000 slices takes longer to read than a shard takes to measure; its fingerprint says when it is new.
@lru_cache(maxsize=2)
def _with_listing(uri: str, fingerprint: str) -> DatasetStore:
    return DatasetStore.open(uri, finished=False)
