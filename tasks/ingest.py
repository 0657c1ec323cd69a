"""Bring images from any source into a data set."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from prefect import task
from prefect.logging import get_run_logger

from scoreinv.spec import Json
from storage.datasets import NAMES, DatasetStore, joined_attrs
from storage.errors import StoreError
from storage.growth import Division, KnownStore, divided, keys_of, known_stores, register
from storage.identities import Hasher
from storage.joined import Piece
from storage.listing import Listing, Rejected
from storage.sources import collect
from storage.sources.catalogue import digest_of_stamps
from storage.sources.source import Volume
from storage.uri import exists, join
from tasks import addresses
from tasks.growth import catalogue_of, known_folder, note_seen, seen_before
from tasks.progress import LOG_SECONDS, follow
from tasks.recipes import IngestRecipe
from tasks.running.owned import owned
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.workers.ingest import IngestJob, ingest_shard


class Made(NamedTuple):
    """A data set that was made as one store."""

    ref: str
    """Empty if all of its volumes showed nothing."""
    left_out: dict[int, str]
    """Volumes that showed nothing, by the place of one of their slices in what was to be made, with the reason."""


@task(name="ingest", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def ingest(recipe: IngestRecipe, execution: Execution) -> str:
    """The reference of the data set, made where it is not there yet.

    A data set is addressed by what was found, not by where: a folder that was moved is the same, one that
    gained a file is another. Of one that grew only what is new is read and made: the rest is taken as it is.
    What leaves this task calls people, series and files as the source's ``identities`` says.
    """
    seen = digest_of_stamps(recipe.source.stamps())
    ref = seen_before(recipe, execution.workspace, seen)
    if ref:
        get_run_logger().info("no file of the source came, went or changed since %s was made", ref)
        return ref
    ref = _ingested(recipe, execution)
    note_seen(recipe, execution.workspace, seen, ref)
    return ref


def _ingested(recipe: IngestRecipe, execution: Execution) -> str:
    found = collect(_with_progress(recipe.source.scan(catalogue_of(execution.workspace))))
    known = known_stores(known_folder(recipe, execution.workspace), join(execution.workspace, "datasets"))
    keys = keys_of(_public(recipe, execution, found))
    empty = {key: reason for one in known for key, reason in one.empty.items()}
    is_bad = {found.slices[place].volume_id: place for place, key in enumerate(keys) if key in empty}
    found = found.without({place: empty[keys[place]] for place in is_bad.values()})
    listing = _public(recipe, execution, found)
    whole = [one for one in known if _is_usable(one) or _mended(recipe, execution, found, one)]
    division = divided(whole, keys_of(listing))
    is_there = exists(join(execution.workspace, addresses.of_dataset(recipe, listing), "_SUCCESS"))
    if is_there or not division.pieces:
        return _made(recipe, execution, found, is_part=False).ref
    return _joined(recipe, execution, found, division)


def _is_usable(known: KnownStore) -> bool:
    """Whether it is finished, has its shards, and says what it holds."""
    try:
        dataset = DatasetStore.open(known.uri)
        return bool(dataset.records) and not dataset.shards.pending()
    except StoreError:
        return False


def _mended(recipe: IngestRecipe, execution: Execution, found: Listing, damaged: KnownStore) -> bool:
    """Whether a data set that lost shards or its listing has them again: if the source has all that it was made of.

    Else what is made of it would have to be made of another one.
    """
    places = {key: place for place, key in enumerate(keys_of(_public(recipe, execution, found)))}
    wanted = [key for shard in damaged.shards for key in shard]
    if not places.keys() >= set(wanted):
        return False
    part = found.part([places[key] for key in wanted])
    # The first data set of a source also says what was left out.
    for listing in (part, part.model_copy(update={"rejected": found.rejected})):
        ref = addresses.of_dataset(recipe, _public(recipe, execution, listing))
        if join(execution.workspace, ref) == damaged.uri:
            return bool(_made(recipe, execution, listing, is_part=True).ref)
    return False


def _joined(recipe: IngestRecipe, execution: Execution, found: Listing, division: Division) -> str:
    """The reference of the data set of the shards that are there, and of those of what is new."""
    parts = [DatasetStore.open(one.uri) for one in division.stores]
    pieces = list(division.pieces)
    if division.rest:
        new = _made(recipe, execution, found.part(division.rest), is_part=True)
        found = found.without({division.rest[place]: reason for place, reason in new.left_out.items()})
        if new.ref:
            parts.append(DatasetStore.open(join(execution.workspace, new.ref)))
            pieces.append(Piece(len(parts) - 1, 0, len(parts[-1].shards.plan())))
    listing = _public(recipe, execution, found)
    attrs = joined_attrs(parts, pieces, listing.rejected)
    ref = addresses.of_images(recipe, str(attrs["listing"]))
    store = DatasetStore.join(
        join(execution.workspace, ref), parts, pieces, attrs, listing.rejected, named=found.rejected
    )
    _tell_oddities(listing, "" if listing == found else join(store.uri, NAMES))
    n_new = len(division.rest)
    get_run_logger().info("%s: %d slices that were there and %d new ones", ref, len(store) - n_new, n_new)
    if not store.shards.is_finished():
        store.finish()
    return ref


def _public(recipe: IngestRecipe, execution: Execution, found: Listing) -> Listing:
    return recipe.source.public(found, Hasher(execution.workspace))


def _made(
    recipe: IngestRecipe,
    execution: Execution,
    found: Listing,
    *,
    is_part: bool,
    empty: Mapping[str, str] = MappingProxyType({}),
) -> Made:
    """The data set of all that was found, as one store; what it holds is remembered.

    Args:
        recipe: says what images are like.
        execution: how it is made.
        found: the slices.
        is_part: of a data set that has others: it is not made if all of its volumes show nothing.
        empty: slices that were left out, by their keys, with the reason.
    """
    listing = _public(recipe, execution, found)
    ref = addresses.of_dataset(recipe, listing)
    store = DatasetStore.create(
        join(execution.workspace, ref),
        listing,
        contract=recipe.image,
        recipe=_without_source(recipe),
        fine_factor=recipe.fine_factor,
        shard_size=recipe.shard_size,
        named=found,
    )
    _tell_oddities(listing, "" if listing == found else join(store.uri, NAMES))
    job, title = IngestJob(source=recipe.source, target=store.uri), f"Ingesting into {ref}"
    while not store.shards.is_finished():
        with owned([store.shards], execution, title) as mine:
            if mine:
                follow(map_shards(ingest_shard, job, store.shards, execution), store.shards, title)
                bad = store.showing_nothing()
                if is_part and len(bad) == len(found.volumes):
                    return Made("", bad)
                if 0 < len(bad) < len(found.volumes):
                    # One volume that does not fit stops no others; their slices are read once more.
                    rest, reasons = found.without(bad), _reasons(listing, bad)
                    return Made(_made(recipe, execution, rest, is_part=is_part, empty=reasons).ref, bad)
                store.finish()
    register(known_folder(recipe, execution.workspace), store.shards, keys_of(listing), empty)
    return Made(ref, {})


def _reasons(listing: Listing, bad: Mapping[int, str]) -> dict[str, str]:
    """Why slices are left out, by their keys, from why their volumes are, by the place of a slice."""
    volumes = {listing.slices[place].volume_id: reason for place, reason in bad.items()}
    pairs = zip(keys_of(listing), listing.slices, strict=True)
    return {key: volumes[one.volume_id] for key, one in pairs if one.volume_id in volumes}


def _tell_oddities(listing: Listing, names: str) -> None:
    log = get_run_logger()
    for bad in listing.rejected:
        log.warning("left out %s: %s", bad.file, bad.reason)
    if listing.rejected and names:
        log.warning("the files that were left out, by their own names, with the reasons in full: %s", names)
    notes = [found for geometry in listing.volumes.values() if isinstance(found := geometry.get("notes"), list)]
    for note, n_volumes in Counter(note for found in notes for note in found).items():
        log.warning("in %d volumes: %s", n_volumes, note)


def _with_progress(scan: Iterator[Volume | Rejected]) -> Iterator[Volume | Rejected]:
    """The scan, with a log line now and then: every slice is decoded once, which takes long for many."""
    n_slices, last = 0, time.monotonic()
    for item in scan:
        n_slices += len(item.slices) if isinstance(item, Volume) else 0
        if time.monotonic() - last > LOG_SECONDS:
            last = time.monotonic()
            get_run_logger().info("Reading the source: %d slices so far", n_slices)
        yield item


def _without_source(recipe: IngestRecipe) -> dict[str, Json]:
    return recipe.model_dump(mode="json", exclude={"source"})
