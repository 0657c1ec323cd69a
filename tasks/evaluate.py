"""Compare reconstructions with the images that were measured."""

from prefect import task

from scoreinv.errors import UserError
from scoreinv.spec import digest_of
from storage.scores import Cell, write_scores
from storage.shards import ShardedStore
from storage.uri import join, size_of, write_bytes
from tasks.artifacts import show_table
from tasks.progress import follow
from tasks.recipes import EvaluateRecipe
from tasks.running.owned import owned
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.study import headline_table, section_of
from tasks.workers.evaluate import VERSION, Candidate, EvaluateJob, evaluate_shard
from tasks.workers.stores import simulation_of
from tasks.workspace import locate, reference


@task(name="evaluate", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def evaluate(recipe: EvaluateRecipe, execution: Execution) -> str:
    """The reference of the scores: one row per slice, method and estimate, and a table of them in table.md."""
    refs = dict.fromkeys(recipe.reconstructions)
    stores = [ShardedStore.open(locate(execution.workspace, ref, "reconstructions")) for ref in refs]
    dataset = _common_dataset(stores)
    ref = reference("scores", digest_of(recipe.digest(), VERSION))
    target = ShardedStore.create(
        join(execution.workspace, ref),
        n=stores[0].n,
        shard_size=stores[0].shard_size,
        arrays={},
        attrs={"recipe": recipe.model_dump(mode="json"), "dataset": dataset},
    )
    title = f"Evaluating {dataset or ref}"
    while not target.is_finished():
        with owned([target], execution, title) as mine:
            if mine:
                job = _job(execution.workspace, stores, dataset, target.uri)
                follow(map_shards(evaluate_shard, job, target, execution), target, title)
                write_scores(target.uri, rows_of(target))
                target.finish(manifest={"n_slices": target.n})
    # Also of one that is done: the table may be damaged, and the records have all that is in it.
    write_scores(target.uri, rows_of(target))
    if not size_of(join(target.uri, "table.md")):
        _write_table(execution.workspace, target.uri)
    show_table(target.uri, f"Metrics of {len(stores)} reconstructions of {dataset or 'measured data'}")
    return ref


def rows_of(scores: ShardedStore) -> list[dict[str, Cell]]:
    """The rows of all slices, from the records of the shards.

    Raises:
        StoreIncomplete: if a shard is not done.
    """
    return [row for record in scores.records() for row in record["rows"]]


def _write_table(workspace: str, uri: str) -> None:
    section = section_of(workspace, uri, n_pictures=0)
    text = f"## {section.heading}\n\n{headline_table(section)}\n"
    write_bytes(join(uri, "table.md"), text.encode())


def _job(workspace: str, stores: list[ShardedStore], dataset: str, target: str) -> EvaluateJob:
    candidates = tuple(_candidate(workspace, store) for store in stores)
    return EvaluateJob(
        dataset=locate(workspace, dataset, "datasets") if dataset else "", candidates=candidates, target=target
    )


def _candidate(workspace: str, store: ShardedStore) -> Candidate:
    uri = locate(workspace, store.attrs["recipe"]["measurements"], "measurements")
    return Candidate(uri=store.uri, measurements=uri, measurement=simulation_of(ShardedStore.open(uri)).measurement)


def _common_dataset(stores: list[ShardedStore]) -> str:
    """The reference of the images that all are of; empty if all are of one scan, whose truth nobody has."""
    refs = {store.attrs["dataset"] or store.attrs["recipe"]["measurements"] for store in stores}
    if len(refs) > 1:
        raise UserError(f"reconstructions of different data sets cannot share a table: {sorted(refs)}")
    return str(stores[0].attrs["dataset"])
