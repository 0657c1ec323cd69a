"""What a collection of images is like, before it is brought onto a grid: its fingerprint, which a plan follows from.

The idea is nnU-Net's (Isensee et al. 2021, Nature Methods 18:203): what a person would look up in a data set
before choosing options is written down once, and the choice follows from it by rules.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from pydantic import Field

from scoreinv.modality import MODALITIES, Modality
from scoreinv.spec import Spec
from storage.datasets import DatasetStore
from storage.errors import SourceError
from storage.listing import Listing, Rejected
from storage.sources.source import Source, Volume, collect

N_LOOKED_AT = 8
"""Slices whose values are looked at: a window that cuts off tissue shows in a few."""

Range = tuple[float, float, float]
"""Smallest, median, largest."""

_T = TypeVar("_T")


class Fingerprint(Spec):
    """How many images, of which size and values."""

    modality: Modality
    n_slices: int
    n_volumes: int
    n_subjects: int
    is_complete: bool = Field(description="Whether everything was read; if not, there is more.")
    rows: Range
    columns: Range
    pixel_mm: Range
    width_mm: Range = Field(description="The longer side of a slice.")
    body_values: tuple[float, ...] = Field(
        description="Quantiles 0, 0.001 ... 1 of the foreground of some slices; HU, or percentile units."
    )
    rejected: tuple[Rejected, ...] = Field(description="What cannot be used, and why.")

    def share_outside(self, low: float, high: float) -> float:
        """The part of the body, from 0 to 1, whose values are not from ``low`` to ``high``."""
        below, above = np.interp((low, high), self.body_values, np.linspace(0, 1, len(self.body_values)))
        return float(below + 1 - above)


def fingerprint_of_source(source: Source, *, max_volumes: int) -> Fingerprint:
    """The fingerprint of a source, from its first volumes if it has more.

    Where results call files by hashes, those that were rejected have no names here.

    Raises:
        SourceError: if there is nothing usable, or images of two modalities.
    """
    items, is_complete = _first_volumes(source.scan(), max_volumes)
    listing = collect(items)
    chosen = _evenly(listing.slices, N_LOOKED_AT)
    found = _fingerprint(listing, list(source.load(chosen)), is_complete=is_complete)
    # Without a workspace there is no salt.
    shown = source.public(listing, lambda name: "a file")
    return found.model_copy(update={"rejected": shown.rejected})


def fingerprint_of_dataset(dataset: DatasetStore) -> Fingerprint:
    """The fingerprint of a data set: its values are cut to its contract, its matrices are those of the source."""
    low, high = dataset.contract.low, dataset.contract.high
    places = _evenly(range(len(dataset)), N_LOOKED_AT)
    images = [low + (high - low) * dataset.images(place, place + 1)[0] for place in places]
    return _fingerprint(dataset.listing, images, is_complete=True)


def _first_volumes(scan: Iterable[Volume | Rejected], max_volumes: int) -> tuple[list[Volume | Rejected], bool]:
    items: list[Volume | Rejected] = []
    n_volumes = 0
    for item in scan:
        n_volumes += isinstance(item, Volume)
        if n_volumes > max_volumes:
            return items, False
        items.append(item)
    return items, True


def _fingerprint(listing: Listing, images: Sequence[np.ndarray], *, is_complete: bool) -> Fingerprint:
    modality = _modality(listing)
    values = np.concatenate([image.ravel() for image in images])
    body = values[values > MODALITIES[modality].foreground]
    slices = listing.slices
    return Fingerprint(
        modality=modality,
        n_slices=len(slices),
        n_volumes=len(listing.volumes),
        n_subjects=len(listing.subjects()),
        is_complete=is_complete,
        rows=_range([record.shape[0] for record in slices]),
        columns=_range([record.shape[1] for record in slices]),
        pixel_mm=_range([size for record in slices for size in record.spacing_mm]),
        width_mm=_range([max(np.multiply(record.shape, record.spacing_mm)) for record in slices]),
        body_values=tuple(np.percentile(body if body.size else values, np.linspace(0, 100, 1001)).tolist()),
        rejected=listing.rejected,
    )


def _modality(listing: Listing) -> Modality:
    found = {str(geometry.get("units")) for geometry in listing.volumes.values()}
    known = [modality for modality, traits in MODALITIES.items() if traits.units in found]
    if len(found) != 1 or not known:
        raise SourceError(f"the values are in {' and '.join(sorted(found))}: one modality was wanted, in one unit")
    return known[0]


def _range(values: Sequence[float]) -> Range:
    return float(min(values)), float(np.median(values)), float(max(values))


def _evenly(items: Sequence[_T], n: int) -> list[_T]:
    places = np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int)
    return [items[place] for place in places]
