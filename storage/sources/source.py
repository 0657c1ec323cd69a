"""Source: a place where slices come from, and what every kind of place has in common."""

import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pydantic import Field, model_validator

from scoreinv.modality import MODALITIES, Modality
from scoreinv.spec import Json, Spec
from storage.errors import SourceError
from storage.identities import Hash, Identities, hidden
from storage.listing import Listing, Rejected, SliceRecord, checksum_of
from storage.sources.catalogue import Catalogue
from storage.sources.files import Stamp

MIN_VOXELS = 32
"""The top of a volume is never judged by fewer."""

SPIKE = 10.0
"""Voxels of so many times what nearly all of the foreground stays below are faults of the measurement."""

LONE = 0.2
"""Of voxels that are bright by chance so many have a bright neighbour at most."""

N_DEVIATIONS = 6.0
"""What is further from the mean is clipped before a volume's range is taken."""

NO_CATALOGUE = Catalogue()

_T = TypeVar("_T")


class Volume(NamedTuple):
    """The chosen slices of one volume, in order, and the volume's geometry, identifiers and units."""

    volume_id: str
    geometry: dict[str, Json]
    slices: tuple[SliceRecord, ...]


def item_to_json(item: Volume | Rejected) -> dict[str, Json]:
    """What a scan yields, as a catalogue keeps it."""
    if isinstance(item, Rejected):
        return item.model_dump(mode="json")
    slices: list[Json] = [one.model_dump(mode="json") for one in item.slices]
    return {"volume_id": item.volume_id, "geometry": item.geometry, "slices": slices}


def item_from_json(kept: Any) -> Volume | Rejected:
    """What a scan yielded, as a catalogue kept it."""
    if "reason" in kept:
        return Rejected.model_validate(kept)
    slices = tuple(SliceRecord.model_validate(one) for one in kept["slices"])
    return Volume(kept["volume_id"], kept["geometry"], slices)


class Checked(NamedTuple):
    """A slice whose values were decoded, and the part of its pixels that is foreground."""

    record: SliceRecord
    foreground: float


class Select(Spec):
    """Which slices of a volume are wanted."""

    every: int = Field(default=1, ge=1, description="Take every n-th slice of a volume.")
    min_foreground: float = Field(default=0.0, ge=0, le=1, description="Skip slices with a smaller part of body.")
    max_slices: int | None = Field(
        default=None, ge=1, description="Of a volume; spread evenly over it, its ends too; 1: the middle."
    )
    skip_first: int = Field(
        default=0, ge=0, description="Of a volume's slices, to leave out from the first one that shows any body on."
    )
    skip_last: int = Field(default=0, ge=0, description="The same up to the last one that shows any.")

    def thinned(self, slices: Sequence[_T]) -> Sequence[_T]:
        """Every n-th slice of a volume: those that are worth decoding."""
        return slices[:: self.every]

    def chosen(self, slices: Sequence[Checked]) -> tuple[SliceRecord, ...]:
        """The slices with enough foreground, at most ``max_slices`` of them."""
        records = [item.record for item in self._within(slices) if item.foreground >= self.min_foreground]
        if self.max_slices is None or len(records) <= self.max_slices:
            return tuple(records)
        last = len(records) - 1
        picks = np.linspace(0, last, self.max_slices).round().astype(int) if self.max_slices > 1 else [last // 2]
        return tuple(records[i] for i in picks)

    def _within(self, slices: Sequence[Checked]) -> Sequence[Checked]:
        """All slices, or those between the ends of the body that are to be left out."""
        body = [self.every * i for i, item in enumerate(slices) if item.foreground > 0]
        if not (self.skip_first or self.skip_last) or not body:
            return slices
        low, high = body[0] + self.skip_first, body[-1] - self.skip_last
        return [item for i, item in enumerate(slices) if low <= self.every * i <= high]


class Source(Spec):
    """Where slices come from, whose are wanted, and what stands for their names in results."""

    only_subjects: tuple[str, ...] = Field(default=(), description="Nobody else; empty means everybody.")
    exclude_subjects: tuple[str, ...] = Field(default=(), description="Leave these out (splits are by subject).")
    identities: Identities = Field(
        default="kept",
        description="What results call people, series and files: hashed (under a secret of the workspace) or kept "
        "as the source has them. Lists of subjects name people as the source does, either way.",
    )

    @model_validator(mode="after")
    def _nobody_is_wanted_and_left_out(self) -> "Source":
        if both := set(self.only_subjects) & set(self.exclude_subjects):
            names = ", ".join(sorted(both)[:5])
            raise ValueError(f"only_subjects and exclude_subjects both name {names}: take them out of one")
        return self

    @abstractmethod
    def scan(self, catalogue: Catalogue = NO_CATALOGUE) -> Iterator[Volume | Rejected]:
        """What is there, in a stable order; every slice was decoded once, so that it can be loaded later.

        Args:
            catalogue: remembers what was found in files that have not changed since, which are then not read.

        Raises:
            SourceError: if the place does not exist.
        """

    def stamps(self) -> dict[str, Stamp]:
        """The stamps of all files, by their names; nothing of them is read. None where there are no files.

        Raises:
            SourceError: if the place does not exist.
        """
        return {}

    @abstractmethod
    def load(self, records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        """The slices of these records as physical values, (rows, columns) float32: HU, or percentile units.

        A volume is decoded once for all records that follow each other.

        Raises:
            SourceError: if a file has gone or cannot be read any more.
        """

    def listing(self) -> Listing:
        """Everything that ``scan`` finds.

        Raises:
            SourceError: if that is not a single slice.
        """
        return collect(self.scan())

    def public(self, listing: Listing, code: Hash) -> Listing:
        """One of this source's listings as results show it; the slices stay in their order."""
        return hidden(listing, code) if self.identities == "hashed" else listing

    def wants(self, subject_id: str) -> bool:
        """Whether this subject's slices are wanted; an accent may be written as one letter or as two."""
        only, excluded = _composed(self.only_subjects), _composed(self.exclude_subjects)
        return not (_composed([subject_id]) & excluded) and (not only or bool(_composed([subject_id]) & only))


def _composed(names: Iterable[str]) -> set[str]:
    return {unicodedata.normalize("NFC", name) for name in names}


def collect(items: Iterable[Volume | Rejected]) -> Listing:
    """A listing of what a scan yields.

    Raises:
        SourceError: if there is not a single slice; the message gives the first reasons.
    """
    slices: list[SliceRecord] = []
    rejected: list[Rejected] = []
    volumes: dict[str, dict[str, Json]] = {}
    for item in items:
        if isinstance(item, Rejected):
            rejected.append(item)
        elif item.slices:
            slices += item.slices
            volumes[item.volume_id] = item.geometry
    if not slices:
        raise SourceError(_nothing_usable(rejected))
    return Listing(slices=tuple(slices), rejected=tuple(rejected), volumes=volumes)


def _nothing_usable(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return "the source has no slice that was asked for: loosen only_subjects, exclude_subjects or select"
    reasons = "; ".join(f"{item.file}: {item.reason}" for item in rejected[:5])
    more = f"; and {len(rejected) - 5} more" if len(rejected) > 5 else ""
    return f"the source has no usable slice, all {len(rejected)} files were rejected ({reasons}{more})"


def checked(record: SliceRecord, values: np.ndarray, modality: Modality) -> Checked:
    """The record with its checksum, and the slice's part of foreground."""
    foreground = float((values > MODALITIES[modality].foreground).mean())
    return Checked(record.model_copy(update={"checksum": checksum_of(values)}), foreground)


def mri_offset_and_scale(volume: np.ndarray, percentile: float) -> tuple[float, float]:
    """What is subtracted from a magnitude volume of any shape, and what it is then divided by.

    Neither hangs on a few voxels that are padded, ring, spike or are negative. The offset is 0, unless the volume was
    normalised to mean 0: then it is the value of its background, the lowest percent. The scale is a percentile of the
    foreground: the voxels above 5 % of the volume's 99.9th percentile, which leaves the background out however large
    it is, without spikes.

    Raises:
        SourceError: if the volume is constant.
    """
    values = _without_padding(volume.ravel())
    offset = _background(values)
    foreground = _foreground(values - np.float32(offset))
    if foreground.size == 0:
        raise SourceError("the volume is empty: all its voxels have the same value, or nearly all")
    foreground = foreground[foreground <= SPIKE * np.percentile(foreground, 95)]
    return offset, float(np.percentile(foreground, percentile))


def box_offset_and_scale(volume: np.ndarray) -> tuple[float, float]:
    """What is subtracted from a magnitude volume (slices, rows, columns), and what it is then divided by, for BraTS.

    As Song et al. 2022 (arXiv:2111.08005) do: within the smallest box that holds all voxels that are not 0, values are
    clipped to six deviations about their mean; the lowest of them then is 0 and the highest 1. Only skull-stripped
    volumes have such a box.

    Raises:
        SourceError: if the volume is constant there.
    """
    places = np.nonzero(volume)
    if places[0].size == 0:
        raise SourceError("the volume is empty: all its voxels are 0")
    box = volume[tuple(slice(along.min(), along.max() + 1) for along in places)].astype(np.float64)
    mean, width = float(box.mean()), N_DEVIATIONS * float(box.std())
    low, high = max(float(box.min()), mean - width), min(float(box.max()), mean + width)
    if low == high:
        raise SourceError(f"the volume is empty: all its voxels that are not 0 have the value {low:g}")
    return low, high - low


def _foreground(values: np.ndarray) -> np.ndarray:
    """The values above 5 % of the top: the 99.9th percentile, in a small volume one that is not of a few voxels."""
    if values.size <= MIN_VOXELS:
        return values[values > 0]
    top = np.percentile(values, min(99.9, 100 - 100 * MIN_VOXELS / values.size))
    bright = values > max(0.05 * top, 0)
    n_together = int((bright[1:] & bright[:-1]).sum())
    # Voxels without a bright neighbour are spikes, if there is anything else: tissue holds together.
    if n_together < LONE * bright.sum() and values[~bright].max(initial=0) > 0:
        return _foreground(values[~bright])
    return np.asarray(values[bright])


def _without_padding(values: np.ndarray) -> np.ndarray:
    """The values without negative constants that are further from all others than these span: they fill the unseen."""
    while (low := values.min()) < 0:
        rest = values[values > low]
        if rest.size == 0 or rest.min() - low <= np.percentile(rest, 99.5) - rest.min():
            break
        values = rest
    return values


def _background(values: np.ndarray) -> float:
    """The lowest percent where it is clearly negative; ringing about 0 is not."""
    if values.min() >= 0:
        return 0.0
    low, high = (float(x) for x in np.percentile(values, (1, 99.5)))
    return low if low < -0.05 * max(high, 0.0) else 0.0


def percentile_units(values: np.ndarray, record: SliceRecord) -> np.ndarray:
    """A magnitude slice as a part of its volume's percentile: (values - offset) / scale, float32."""
    return (values.astype(np.float32) - np.float32(record.offset)) / np.float32(record.scale)
