"""The images of a training, read into memory once by each of its processes, and those held out of it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.training.data import balanced_weights
from storage.datasets import DatasetStore
from tasks.recipes import TrainRecipe

N_VALIDATION = 64
"""Held-out images per validation: enough for 1 % precision of the error, a few seconds on a CPU."""


class TrainingImages(NamedTuple):
    """Images to train on (n, 1, fine, fine) with their chances, and held-out ones (m, 1, size, size)."""

    contract: ImageContract
    images: Tensor
    weights: Tensor
    held_out: Tensor


def read_images(recipe: TrainRecipe, uris: Sequence[str]) -> TrainingImages:
    """The images of the recipe's data sets, as fine as they are stored.

    Raises:
        ValueError: if the data sets do not fit together, or held-out subjects are unknown or all there are.
    """
    stores = [DatasetStore.open(uri) for uri in uris]
    _require_alike(stores)
    free = [_is_free(store, recipe.validation_subjects) for store in stores]
    _require_subjects(recipe, stores, free)
    images, held_out = _read(stores, free)
    return TrainingImages(stores[0].contract, images, _weights(recipe, stores, free), held_out)


def _require_alike(stores: list[DatasetStore]) -> None:
    first = stores[0]
    for store in stores[1:]:
        if (store.contract, store.fine_factor) != (first.contract, first.fine_factor):
            raise UserError(
                f"{store.uri} holds {store.contract} and images {store.fine_factor} times finer, but {first.uri} holds "
                f"{first.contract} and {first.fine_factor} times finer: ingest them alike"
            )


def _is_free(store: DatasetStore, held_out: Sequence[str]) -> Tensor:
    return torch.tensor([record.subject_id not in held_out for record in store.records], dtype=torch.bool)


def _require_subjects(recipe: TrainRecipe, stores: list[DatasetStore], free: list[Tensor]) -> None:
    known = {record.subject_id for store in stores for record in store.records}
    unknown = sorted(set(recipe.validation_subjects) - known)
    if unknown:
        raise UserError(f"validation_subjects names {', '.join(unknown)}, of whom the data sets hold no image")
    if not any(bool(one.any()) for one in free):
        raise UserError("validation_subjects holds every subject: nothing is left to train on")


def _weights(recipe: TrainRecipe, stores: list[DatasetStore], free: list[Tensor]) -> Tensor:
    """Chance of each image to train on; those of a data set sum to its share."""
    shares = recipe.shares or tuple(float(one.sum()) for one in free)
    if len(shares) != len(stores):
        raise UserError(f"shares has {len(shares)} numbers for {len(stores)} data sets: give one for each, or none")
    weights = []
    for share, store, is_free in zip(shares, stores, free, strict=True):
        subjects = [record.subject_id for record, one in zip(store.records, is_free.tolist(), strict=True) if one]
        weights.append(share * balanced_weights(subjects, power=recipe.balance_power))
    return torch.cat(weights)


def _read(stores: list[DatasetStore], free: list[Tensor]) -> tuple[Tensor, Tensor]:
    # One store at a time into one tensor: the images of a large training fill much of the memory.
    side = stores[0].contract.size * stores[0].fine_factor
    images, held_out, start = torch.empty(sum(int(one.sum()) for one in free), 1, side, side), [], 0
    for store, is_free in zip(stores, free, strict=True):
        read = store.fine_images if store.fine_factor > 1 else store.images
        found = torch.from_numpy(read(0, len(store)))[:, None]
        stop = start + int(is_free.sum())
        images[start:stop] = found[is_free]
        held_out.append(found[~is_free])
        start = stop
    return images, _validation_images(torch.cat(held_out), stores[0].fine_factor)


def _validation_images(images: Tensor, fine_factor: int) -> Tensor:
    if len(images) > N_VALIDATION:
        images = images[torch.linspace(0, len(images) - 1, N_VALIDATION).long()]
    return F.avg_pool2d(images, fine_factor) if len(images) else images
