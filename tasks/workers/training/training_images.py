"""The images of a training and those held out of it, shard by shard from its data sets.

A collection of a few gigabytes is read into the memory of every process. A larger one is put, once per machine, into a
file that all processes map (``storage.mapped``): eight processes then share one copy, and the draws are the same.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scoreinv.band import low_band
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.spec import digest_of
from scoreinv.training.data import balanced_weights
from scoreinv.training.integers import Integers, as_integers
from storage.datasets import DatasetStore
from storage.mapped import cache_folder, mapped
from tasks.recipes import TrainRecipe

N_VALIDATION = 64
"""Held-out images per validation: enough for 1 % precision of the error, a few seconds on a CPU."""


class TrainingImages(NamedTuple):
    """Images to train on (n, n_channels, fine, fine) with their chances, and held-out ones (m, n_channels, side, side).

    Held-out ones have the side that the objective wants of images.
    """

    contract: ImageContract
    images: Tensor
    weights: Tensor
    held_out: Tensor
    side: int
    file: Path | None
    """That holds the images, if they are not in memory."""
    slices: tuple[str, ...] = ()
    """Checksums of the slices that are trained on, of those that have one."""


def read_images(
    recipe: TrainRecipe, uris: Sequence[str], *, max_gib: float = math.inf, cache: str = ""
) -> TrainingImages:
    """The images of the recipe's data sets, as fine as they are stored.

    Args:
        recipe: says who is held out, and how fine the objective wants its images.
        uris: of the data sets.
        max_gib: more than this goes into a file.
        cache: the folder of that file; empty: that for temporary files.

    Raises:
        ValueError: if the data sets do not fit together, or held-out subjects are unknown or all there are.
    """
    stores = [DatasetStore.open(uri) for uri in uris]
    _require_alike(stores)
    free = [_is_free(store, recipe.validation_subjects) for store in stores]
    _require_subjects(recipe, stores, free)
    contract, fine_factor = stores[0].contract, stores[0].fine_factor
    factor = recipe.objective.factor(fine_factor)
    held_out = _held_out_images(stores, free, fine_factor // factor)
    path = None
    if _n_bytes(stores, free) > max_gib * 2**30:
        path = cache_folder(cache) / f"{_digest(recipe, stores)}.images"
    return TrainingImages(
        recipe.model_image(contract),
        images=_training_images(stores, free, path),
        weights=_weights(recipe, stores, free),
        held_out=low_band(held_out, recipe.band) if recipe.band and len(held_out) else held_out,
        side=contract.size * factor,
        file=path,
        slices=tuple(
            record.checksum
            for store, is_free in zip(stores, free, strict=True)
            for record, one in zip(store.records, is_free.tolist(), strict=True)
            if one and record.checksum
        ),
    )


def for_device(images: Tensor, device: torch.device) -> Tensor | Integers:
    """The images where a training on a device takes them from: in its own memory, if that has much room to spare.

    There they are integers, where these give every value back to the bit.
    """
    if device.type != "cuda":
        return images
    room = torch.cuda.mem_get_info(device)[0] / 4
    # As integers they take half of it.
    stored = (images.nbytes < 2 * room and as_integers(images)) or images
    n_bytes = stored.values.nbytes if isinstance(stored, Integers) else stored.nbytes
    return stored.to(device) if n_bytes < room else images


def _require_alike(stores: list[DatasetStore]) -> None:
    first = stores[0]
    for store in stores[1:]:
        if (store.contract, store.fine_factor) != (first.contract, first.fine_factor):
            raise UserError(
                f"{store.uri} holds {store.contract} and images {store.fine_factor} times finer, but {first.uri} holds "
                f"{first.contract} and {first.fine_factor} times finer: ingest them alike"
            )


def _is_free(store: DatasetStore, held_out: Sequence[str]) -> np.ndarray:
    return np.array([record.subject_id not in held_out for record in store.records], dtype=bool)


def _require_subjects(recipe: TrainRecipe, stores: list[DatasetStore], free: list[np.ndarray]) -> None:
    known = {record.subject_id for store in stores for record in store.records}
    unknown = sorted(set(recipe.validation_subjects) - known)
    if unknown:
        raise UserError(f"validation_subjects names {', '.join(unknown)}, of whom the data sets hold no image")
    if not any(bool(one.any()) for one in free):
        raise UserError("validation_subjects holds every subject: nothing is left to train on")


def _weights(recipe: TrainRecipe, stores: list[DatasetStore], free: list[np.ndarray]) -> Tensor:
    """Chance of each image to train on; those of a data set sum to its share."""
    shares = recipe.shares or tuple(float(one.sum()) for one in free)
    if len(shares) != len(stores):
        raise UserError(f"shares has {len(shares)} numbers for {len(stores)} data sets: give one for each, or none")
    weights = []
    for share, store, is_free in zip(shares, stores, free, strict=True):
        subjects = [record.subject_id for record, one in zip(store.records, is_free.tolist(), strict=True) if one]
        weights.append(share * balanced_weights(subjects, power=recipe.balance_power))
    return torch.cat(weights)


def _digest(recipe: TrainRecipe, stores: list[DatasetStore]) -> str:
    contents = [[store.uri, str(store.shards.attrs["listing"])] for store in stores]
    return digest_of(contents, list(recipe.validation_subjects))


def _shape(stores: list[DatasetStore], free: list[np.ndarray]) -> tuple[int, int, int, int]:
    contract, side = stores[0].contract, stores[0].contract.size * stores[0].fine_factor
    return sum(int(one.sum()) for one in free), contract.n_channels, side, side


def _n_bytes(stores: list[DatasetStore], free: list[np.ndarray]) -> int:
    return 4 * math.prod(_shape(stores, free))


def _training_images(stores: list[DatasetStore], free: list[np.ndarray], path: Path | None) -> Tensor:
    shape = _shape(stores, free)
    # One shard at a time: the images of a large training fill much of the memory.
    parts = (part for store, chosen in zip(stores, free, strict=True) for part in _chosen(store, chosen))
    if path is not None:
        images = mapped(path, shape, parts)
        with warnings.catch_warnings():
            # Nobody writes into the images.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(images)
    images, start = np.empty(shape, np.float32), 0
    for part in parts:
        images[start : start + len(part)] = part.reshape(-1, *shape[1:])
        start += len(part)
    return torch.from_numpy(images)


def _chosen(store: DatasetStore, is_chosen: np.ndarray) -> Iterator[np.ndarray]:
    """The chosen images of a data set, shard by shard, as fine as they are stored."""
    read = store.fine_images if store.fine_factor > 1 else store.images
    for shard in store.shards.plan():
        places = is_chosen[shard.start : shard.stop]
        if places.any():
            yield read(shard.start, shard.stop)[places]


def _held_out_images(stores: list[DatasetStore], free: list[np.ndarray], factor: int) -> Tensor:
    """At most so many, spread evenly over those that are not free, averaged down by a whole factor."""
    held_out = np.flatnonzero(~np.concatenate(free))
    if len(held_out) > N_VALIDATION:
        held_out = held_out[torch.linspace(0, len(held_out) - 1, N_VALIDATION).long().numpy()]
    is_chosen = np.zeros(sum(map(len, free)), bool)
    is_chosen[held_out] = True
    masks = np.split(is_chosen, np.cumsum([len(one) for one in free])[:-1])
    parts = [part for store, mask in zip(stores, masks, strict=True) for part in _chosen(store, mask)]
    _, *shape = _shape(stores, free)
    images = torch.from_numpy(
        np.concatenate([np.empty((0, *shape), np.float32), *(p.reshape(-1, *shape) for p in parts)])
    )
    return F.avg_pool2d(images, factor) if len(images) else images
