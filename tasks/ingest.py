"""Bring images from any source into a data set."""

from prefect import task
from prefect.logging import get_run_logger

from scoreinv.spec import Json, digest_of
from storage.datasets import DatasetStore, Listing
from storage.uri import join
from tasks.progress import follow
from tasks.recipes import IngestRecipe
from tasks.retry import worth_retrying
from tasks.shards import Execution, map_shards
from tasks.workers.ingest import IngestJob, ingest_shard
from tasks.workspace import reference


@task(name="ingest", retries=1, retry_condition_fn=worth_retrying)
def ingest(recipe: IngestRecipe, execution: Execution) -> str:
    """The reference of the data set, made where it is not there yet.

    A data set is addressed by what was found, not by where: a folder that was moved is the same, one that
    gained a file is another.
    """
    log = get_run_logger()
    listing = recipe.source.listing()
    for bad in listing.rejected:
        log.warning("left out %s: %s", bad.file, bad.reason)
    ref = reference("datasets", _address(recipe, listing))
    store = DatasetStore.create(
        join(execution.workspace, ref),
        listing,
        contract=recipe.image,
        recipe=_without_source(recipe),
        fine_factor=recipe.fine_factor,
        shard_size=recipe.shard_size,
    )
    if not store.shards.is_finished():
        job = IngestJob(source=recipe.source, target=store.uri)
        follow(map_shards(ingest_shard, job, store.shards, execution), store.shards, f"Ingesting into {ref}")
        store.finish()
    return ref


def _address(recipe: IngestRecipe, listing: Listing) -> str:
    return digest_of(_without_source(recipe), listing.fingerprint)


def _without_source(recipe: IngestRecipe) -> dict[str, Json]:
    return recipe.model_dump(mode="json", exclude={"source"})
