"""Image data sets: which slices they hold, where each came from, and the images on one common grid."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.modality import MODALITIES
from scoreinv.spec import Json, digest_of
from storage.errors import SourceError, StoreError, StoreIncomplete, StoreMismatch, StoreNotFound
from storage.joined import JoinedStore, Piece, open_store
from storage.listing import Listing, Rejected, SliceRecord, checksum_of
from storage.looks import Look, look_of, nothing_seen, read_looks
from storage.plans import read_if_whole, reference_of
from storage.resample import prepare
from storage.shards import ArrayLayout, Shard, ShardedStore
from storage.uri import exists, join, json_bytes, read_json, sealed, write_if_other, write_json

NAMES = "names.json"
"""Of a data set: the files that hold its slices, and those that were rejected, by their own names."""


REJECTED = "rejected.json"
"""Of a joined data set: what was left out of the whole. Its slices are listed by its parts."""


Load = Callable[[Sequence[SliceRecord]], Iterator[np.ndarray]]
"""From records to their slices in physical values, as ``Source.load``."""


class DatasetStore:
    """Images (size, size) in [0, 1] under one contract, and on request the same images on a finer grid.

    Beside the arrays lies slices.json with the listing. Where that holds hashes in place of names, the names of the
    files lie in names.json, which is private and needed only until the data set is finished.
    """

    def __init__(self, shards: ShardedStore) -> None:
        self.shards = shards
        if "contract" not in shards.attrs:
            raise StoreMismatch(f"{shards.uri} holds no data set: its plan.json is another store's, or it was moved")
        self.contract = ImageContract.model_validate(shards.attrs["contract"])
        self.fine_factor = int(shards.attrs["fine_factor"])
        self._listing: Listing | None = None
        self._files: list[str] | None = None

    @classmethod
    def create(
        cls,
        uri: str,
        listing: Listing,
        *,
        contract: ImageContract,
        recipe: Mapping[str, Json],
        shard_size: int = 32,
        fine_factor: int = 1,
        named: Listing | None = None,
    ) -> Self:
        """The data set of these slices, made if it is not there yet, else reopened to be resumed.

        Args:
            named: the same listing with the source's own names, if ``listing`` holds hashes.

        Raises:
            StoreMismatch: if another data set lies in this place.
            SourceError: if the slices are not in the contract's units (HU for CT, volume percentiles for MRI).
        """
        _refuse_other_units(listing, contract)
        attrs: dict[str, Json] = {
            "contract": contract.model_dump(mode="json"),
            "fine_factor": fine_factor,
            "listing": listing.fingerprint,
            "recipe": dict(recipe),
        }
        layouts = {"images": ArrayLayout((contract.size, contract.size))}
        if fine_factor > 1:
            layouts["images_fine"] = ArrayLayout((contract.size * fine_factor, contract.size * fine_factor))
        shards = ShardedStore.create(uri, n=len(listing.slices), shard_size=shard_size, arrays=layouts, attrs=attrs)
        if named is not None and named != listing and not exists(join(uri, NAMES)):
            rejected = [one.model_dump(mode="json") for one in named.rejected]
            files: list[Json] = [record.file for record in named.slices]
            write_json(join(uri, NAMES), {"files": files, "rejected": rejected}, is_private=True)
        write_if_other(join(uri, "slices.json"), json_bytes(listing.model_dump(mode="json")))
        return cls(shards)

    @classmethod
    def join(
        cls,
        uri: str,
        parts: Sequence["DatasetStore"],
        pieces: Sequence[Piece],
        attrs: Mapping[str, Json],
        rejected: Sequence[Rejected],
        *,
        named: Sequence[Rejected],
    ) -> Self:
        """The data set of these shards of others, made if it is not there yet.

        Args:
            parts: data sets of one recipe, in the same folder.
            attrs: of the store, from ``joined_attrs``.
            rejected: what was left out of the whole.
            named: the same with the source's own names.
        """
        shards = JoinedStore.join(uri, [one.shards for one in parts], pieces, attrs=attrs)
        shown: list[Json] = [one.model_dump(mode="json") for one in rejected]
        write_if_other(join(uri, REJECTED), json_bytes(sealed({"rejected": shown})))
        if tuple(named) != tuple(rejected) and not exists(join(uri, NAMES)):
            own_names: list[Json] = [one.model_dump(mode="json") for one in named]
            write_json(join(uri, NAMES), {"rejected": own_names}, is_private=True)
        return cls(shards)

    @classmethod
    def open(cls, uri: str, *, finished: bool = True) -> Self:
        """The data set at a URI, in one store or joined; errors as ``ShardedStore.open``."""
        return cls(open_store(uri, finished=finished))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.shards,))

    def __len__(self) -> int:
        return self.shards.n

    def restore_rejected(self) -> None:
        """Puts what was left out of a joined data set anew from its manifest, if it is lost or damaged."""
        if not isinstance(self.shards, JoinedStore):
            return
        with suppress(StoreError):
            _left_out(self.shards)
            return
        with suppress(StoreError, KeyError):
            left_out = self.shards.manifest()["rejected"]
            if _is_of(self.shards, left_out):
                write_json(join(self.uri, REJECTED), sealed({"rejected": left_out}))

    @property
    def uri(self) -> str:
        """Where the data set lies."""
        return self.shards.uri

    @property
    def listing(self) -> Listing:
        """Slices, rejected files and volumes, as the source was listed.

        Raises:
            StoreError: if it is gone or damaged.
        """
        if self._listing is None:
            if isinstance(self.shards, JoinedStore):
                self._listing = _joined_listing(self.shards)
            else:
                self._listing = _read_listing(self.uri, str(self.shards.attrs["listing"]))
        return self._listing

    @property
    def records(self) -> tuple[SliceRecord, ...]:
        """One record per slice, in order."""
        return self.listing.slices

    def images(self, start: int, stop: int) -> np.ndarray:
        """Images ``start`` to ``stop``: (n, size, size) float32 in [0, 1]."""
        return self.shards.read("images", start, stop)

    def fine_images(self, start: int, stop: int) -> np.ndarray:
        """The same on the fine grid: (n, size * fine_factor, size * fine_factor).

        Raises:
            ValueError: if the data set was made without fine images.
        """
        if self.fine_factor == 1:
            raise UserError(f"{self.uri} has no fine images: ingest with fine_factor=2 or more")
        return self.shards.read("images_fine", start, stop)

    def ingest(self, shard: Shard, load: Load, *, record: Mapping[str, Json] | None = None) -> None:
        """Loads, resamples and writes one shard.

        Raises:
            SourceError: if a slice is not what it was when the source was listed.
        """
        wanted = self._with_files(shard)
        images, fine_images, looks = zip(
            *(self._prepared(one, values) for one, values in zip(wanted, load(wanted), strict=True)), strict=True
        )
        arrays = {"images": np.stack(images)}
        if self.fine_factor > 1:
            arrays["images_fine"] = np.stack(fine_images)
        self.shards.write(shard, arrays, record={"looks": [look.to_json() for look in looks], **(record or {})})

    def finish(self, *, manifest: Mapping[str, Json] | None = None) -> None:
        """Marks the data set as finished; counts and rejected files go to its manifest.

        Raises:
            StoreIncomplete: if shards are missing.
            SourceError: if a volume shows nothing: black, constant or saturated; all of them are named.
        """
        if not self.shards.pending():
            self._refuse_nothing()
        self.shards.finish(manifest={**_counts(self.listing), **(manifest or {})})

    def _with_files(self, shard: Shard) -> Sequence[SliceRecord]:
        """The slices of a shard, with the files that hold them."""
        slices = self.listing.slices[shard.start : shard.stop]
        if self._files is None:
            is_named = exists(join(self.uri, NAMES))
            names = read_json(join(self.uri, NAMES))["files"] if is_named else [one.file for one in self.records]
            self._files = [str(name) for name in names]
        files = self._files[shard.start : shard.stop]
        return [record.model_copy(update={"file": file}) for record, file in zip(slices, files, strict=True)]

    def _prepared(self, record: SliceRecord, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, Look]:
        if record.checksum and checksum_of(values) != record.checksum:
            raise SourceError(
                f"slice {record.index} of {record.file} has changed since the source was listed: ingest it anew"
            )
        if not np.isfinite(values).all():
            raise SourceError(f"slice {record.index} of {record.file} has values that are no finite numbers")
        image, fine = prepare(values, record.spacing_mm, self.contract, fine_factor=self.fine_factor)
        return image, fine, look_of(values, record.spacing_mm, image, self.contract)

    def showing_nothing(self) -> dict[int, str]:
        """Volumes that came out black, constant or saturated, by the place of their first slice, with the reason.

        Raises:
            StoreIncomplete: if shards are missing.
        """
        looks: dict[str, list[Look]] = {}
        places: dict[str, int] = {}
        for shard, record in zip(self.shards.plan(), self.shards.records(), strict=True):
            for i, look in enumerate(read_looks(record.get("looks", ())), shard.start):
                volume_id = self.listing.slices[i].volume_id
                places.setdefault(volume_id, i)
                looks.setdefault(volume_id, []).append(look)
        reasons = {name: nothing_seen(found, self.contract) for name, found in looks.items()}
        return {places[name]: reason for name, reason in reasons.items() if reason}

    def volume_ranges(self, shard: Shard) -> np.ndarray:
        """Of each slice of a shard the lowest and the highest physical value of its volume, (n, 2) float64.

        They are of the slices that the data set holds, before values were clipped to the contract's; NaN in a data set
        from before this was kept.

        Raises:
            StoreIncomplete: if a shard that holds slices of these volumes is missing.
        """
        mine = [one.volume_id for one in self.records[shard.start : shard.stop]]
        shards = sorted({index for name in mine for index in self._shards_of_volumes[name]})
        looks: dict[str, list[Look]] = {}
        for other in (self.shards.plan()[index] for index in shards):
            found = read_looks(self.shards.record(other.index).get("looks", ()))
            for one, look in zip(self.records[other.start : other.stop], found, strict=bool(found)):
                looks.setdefault(one.volume_id, []).append(look)
        ranges = {name: (min(x.lowest for x in seen), max(x.highest for x in seen)) for name, seen in looks.items()}
        return np.array([ranges.get(name, (np.nan, np.nan)) for name in mine])

    @cached_property
    def _shards_of_volumes(self) -> dict[str, set[int]]:
        """By volume the shards that hold its slices: not always neighbours, where a data set grew."""
        found: dict[str, set[int]] = {}
        for shard in self.shards.plan():
            for one in self.records[shard.start : shard.stop]:
                found.setdefault(one.volume_id, set()).add(shard.index)
        return found

    def _refuse_nothing(self) -> None:
        bad = [f"{self._file_of(place)}: {reason}" for place, reason in self.showing_nothing().items()]
        if bad:
            more = f"; and {len(bad) - 5} more" if len(bad) > 5 else ""
            n = len({record.volume_id for record in self.listing.slices})
            raise SourceError(
                f"{len(bad)} of {n} volumes show nothing on the images of the data set: {'; '.join(bad[:5])}"
                f"{more}. Set the image's fields to fit, or leave them out (source.exclude_subjects); "
                "source.select.min_foreground skips slices of air"
            )

    def _file_of(self, place: int) -> str:
        (record,) = self._with_files(Shard(0, place, place + 1))
        return record.file


def joined_attrs(
    parts: Sequence[DatasetStore], pieces: Sequence[Piece], rejected: Sequence[Rejected]
) -> dict[str, Json]:
    """The attributes of the data set of these shards; "listing" follows from what it holds."""
    left_out: list[Json] = [one.model_dump(mode="json") for one in rejected]
    listing = _digest_of_join([one.shards for one in parts], pieces, left_out)
    return parts[0].shards.attrs | {"listing": listing}


def _digest_of_join(parts: Sequence[ShardedStore], pieces: Sequence[Piece], rejected: Json) -> str:
    contents: list[Json] = [str(part.attrs["listing"]) for part in parts]
    return digest_of(contents, [list(piece) for piece in pieces], rejected)


def _joined_listing(store: JoinedStore) -> Listing:
    """The slices of the pieces, each as its part lists it."""
    listings = [DatasetStore(part).listing for part in store.parts]
    slices: list[SliceRecord] = []
    volumes: dict[str, dict[str, Json]] = {}
    for number, first, last in store.pieces:
        plan, listing = store.parts[number].plan(), listings[number]
        found = listing.slices[plan[first].start : plan[last - 1].stop]
        slices += found
        volumes |= {name: listing.volumes[name] for name in dict.fromkeys(one.volume_id for one in found)}
    return Listing(slices=tuple(slices), rejected=_left_out(store), volumes=volumes)


def _left_out(store: JoinedStore) -> tuple[Rejected, ...]:
    uri = join(store.uri, REJECTED)
    found = read_if_whole(uri) or {}
    if not _is_of(store, found.get("rejected")):
        state = "damaged" if exists(uri) else "gone"
        raise StoreError(f"{uri} is {state}: `scoreinv repair {reference_of(store.uri)}` puts it anew")
    return tuple(Rejected.model_validate(one) for one in found["rejected"])


def _is_of(store: JoinedStore, rejected: Json) -> bool:
    """Whether this was left out of a joined data set: its attributes hold a digest of it."""
    return bool(store.attrs["listing"] == _digest_of_join(store.parts, store.pieces, rejected))


def _read_listing(uri: str, fingerprint: str) -> Listing:
    slices = join(uri, "slices.json")
    again = "run the ingest command again with the same source, which puts it anew"
    try:
        listing = Listing.model_validate(read_json(slices))
    except StoreNotFound as error:
        raise StoreIncomplete(f"{slices} is not there: {again}") from error
    except (StoreError, ValidationError) as error:
        raise StoreError(f"{slices} is damaged: {again}") from error
    if listing.fingerprint != fingerprint:
        raise StoreError(f"{slices} is damaged, it does not hold what was listed: {again}")
    return listing


def _refuse_other_units(listing: Listing, contract: ImageContract) -> None:
    wanted = MODALITIES[contract.modality].units
    for volume_id, geometry in listing.volumes.items():
        if geometry.get("units") != wanted:
            raise SourceError(
                f"volume {volume_id} is in {geometry.get('units')!r}, but the data set is {contract.modality} and "
                f"needs {wanted!r}: set the source's modality, or the data set's"
            )


def _counts(listing: Listing) -> dict[str, Json]:
    return {
        "n_slices": len(listing.slices),
        "n_volumes": len(listing.volumes),
        "n_subjects": len(listing.subjects()),
        "rejected": [item.model_dump(mode="json") for item in listing.rejected],
    }
