"""Bring images from any source into a data set."""

import time
from collections import Counter
from collections.abc import Iterator

from prefect import task
from prefect.logging import get_run_logger

from scoreinv.spec import Json, digest_of
from storage.datasets import NAMES, DatasetStore, Listing, Rejected
from storage.identities import Hasher
from storage.sources import PhantomSource, collect
from storage.sources.source import Volume
from storage.uri import join
from tasks.progress import LOG_SECONDS, follow
from tasks.recipes import IngestRecipe
from tasks.running.owned import owned
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.workers.ingest import VERSION, IngestJob, ingest_shard
from tasks.workspace import reference


@task(name="ingest", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def ingest(recipe: IngestRecipe, execution: Execution) -> str:
    """The reference of the data set, made where it is not there yet.

    A data set is addressed by what was found, not by where: a folder that was moved is the same, one that
    gained a file is another. What leaves this task calls people, series and files as the source's ``identities`` says.
    """
    found = collect(_with_progress(recipe.source.scan()))
    return _made(recipe, execution, found)


def _made(recipe: IngestRecipe, execution: Execution, found: Listing) -> str:
    """The reference of the data set of what was found, less what shows nothing; made where it is not there yet."""
    listing = recipe.source.public(found, Hasher(execution.workspace))
    ref = reference("datasets", _address(recipe, listing))
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
                if 0 < len(bad) < len(found.volumes):
                    # One volume that does not fit stops no others; their slices are read once more.
                    return _made(recipe, execution, found.without(bad))
                store.finish()
    return ref


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


def _address(recipe: IngestRecipe, listing: Listing) -> str:
    # What a source does is in the fingerprint, which holds every value it found.
    found_anywhere = recipe.model_copy(update={"source": PhantomSource()})
    return digest_of(found_anywhere.digest(), listing.fingerprint, VERSION)


def _without_source(recipe: IngestRecipe) -> dict[str, Json]:
    return recipe.model_dump(mode="json", exclude={"source"})
