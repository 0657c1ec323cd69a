"""Stores on a worker; what is large and the same for every shard is read once per process."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from scoreinv.contract import ImageContract
from scoreinv.measurement import Measured
from scoreinv.operators.pixels import SCANNER
from storage.datasets import DatasetStore
from storage.errors import StoreMismatch
from storage.joined import open_store as open_any
from storage.shards import Shard, ShardedStore
from storage.uri import is_local
from tasks.recipes import MeasureRecipe, Simulation

CONTEXT = "context_"
"""Begins the names of the arrays in a store of measurements that hold what the operator needs of each slice."""


def open_store(uri: str, *, finished: bool = True) -> ShardedStore:
    """The store at a URI, to work on one shard of it; errors as ``ShardedStore.open``.

    Of a store in a bucket the plan is read once per process, as it does not change, and a marker once per shard.
    """
    opened = _opened if is_local(uri) else _opened_once
    return opened(uri, finished).remembering()


def open_dataset(uri: str, *, finished: bool = True) -> DatasetStore:
    """The data set at a URI; errors as ``DatasetStore.open``."""
    return _with_listing(uri, str(open_store(uri, finished=finished).attrs["listing"]))


class Identity(NamedTuple):
    """A slice: what it is called, in which volume of which person."""

    slice_id: str
    volume_id: str
    subject_id: str


def simulation_of(measurements: ShardedStore) -> Simulation:
    """What was measured, and how data that were simulated came about."""
    attrs = measurements.attrs
    if "recipe" in attrs:
        return MeasureRecipe.model_validate(attrs["recipe"]).simulation
    return Simulation.model_validate({"measurement": attrs["measurement"]})


def is_exact(measurements: ShardedStore) -> bool:
    """Whether the data were simulated from images on the very grid of those that are looked for."""
    return "recipe" in measurements.attrs and not simulation_of(measurements).uses_fine_images


def dataset_of(measurements: ShardedStore) -> str:
    """The reference of the images that were measured; empty for data of a scanner, whose truth nobody has."""
    return str(measurements.attrs["recipe"]["dataset"]) if "recipe" in measurements.attrs else ""


def read_identities(measurements: ShardedStore, places: Sequence[int]) -> list[Identity]:
    """Whose slices lie in these places of measurements that a scanner made."""
    shards, records = _shards_of(measurements, places)
    pairs = zip(places, shards, strict=True)
    return [Identity(*records[shard.index]["identities"][place - shard.start]) for place, shard in pairs]


def read_names(measurements: ShardedStore, places: Sequence[int]) -> list[str]:
    """What the slices in these places are called: their shards say it, a list of all would be read for every shard."""
    shards, records = _shards_of(measurements, places)
    # An earlier version did keep a list of all.
    if all("slice_ids" in record for record in records.values()):
        return [records[s.index]["slice_ids"][place - s.start] for place, s in zip(places, shards, strict=True)]
    return [measurements.attrs["slice_ids"][place] for place in places]


def _shards_of(store: ShardedStore, places: Sequence[int]) -> tuple[list[Shard], dict[int, dict[str, Any]]]:
    """The shard of each place, and the records of these shards, each read once."""
    shards = [store.shard_at(place) for place in places]
    return shards, {index: store.record(index) for index in sorted({shard.index for shard in shards})}


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
    arrays = {name: torch.from_numpy(store.read_places(name, places)) for name in store.layouts}
    y, noise_std = arrays.pop("y"), arrays.pop("noise_std")
    context = {name.removeprefix(CONTEXT): value for name, value in arrays.items()}
    return Measured(y, noise_std, context, fine_factor_of(store))


def fine_factor_of(measurements: ShardedStore) -> float:
    """How many times finer than the images to find is what was measured.

    Raises:
        StoreMismatch: if the store was filled by a version that did not say.
    """
    if "recipe" not in measurements.attrs:
        return SCANNER
    if is_exact(measurements):
        return 1
    if "fine_factor" not in measurements.attrs:
        raise StoreMismatch(
            f"{measurements.uri} was measured by an earlier version, which did not say how much finer the images were: "
            "run measure again and use the measurements it names"
        )
    return float(measurements.attrs["fine_factor"])


def as_images(values: np.ndarray, image: ImageContract) -> torch.Tensor:
    """Images (batch, n_channels, height, width) of what a store holds (n, *image.stored_shape()), also if finer."""
    return torch.from_numpy(values).reshape(len(values), image.n_channels, *values.shape[-2:])


def _opened(uri: str, finished: bool) -> ShardedStore:
    return open_any(uri, finished=finished)


_opened_once = lru_cache(maxsize=64)(_opened)


# A listing of 100 000 slices takes longer to read than a shard takes to measure; its fingerprint says when it is new.
@lru_cache(maxsize=2)
def _with_listing(uri: str, fingerprint: str) -> DatasetStore:
    return DatasetStore.open(uri, finished=False)
