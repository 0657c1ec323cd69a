"""Compare reconstructions with the images that were measured."""

from collections.abc import Sequence

from prefect import task

from scoreinv.errors import UserError
from storage.joined import About, create_alike, open_store, part_of, parts_of
from storage.scores import rows_of, write_scores
from storage.shards import ShardedStore
from storage.uri import join, remove_unfinished, size_of, write_bytes
from tasks import addresses
from tasks.artifacts import show_table
from tasks.recipes import EvaluateRecipe
from tasks.running.owned import fill
from tasks.running.retry import worth_retrying
from tasks.running.shards import Events, Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.study import headline_table, section_of
from tasks.workers.evaluate import Candidate, EvaluateJob, evaluate_shard
from tasks.workers.stores import simulation_of
from tasks.workspace import locate, locate_calibration, part_reference


@task(name="evaluate", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def evaluate(recipe: EvaluateRecipe, execution: Execution) -> str:
    """The reference of the scores: one row per slice, method and estimate, and a table of them in table.md."""
    refs = list(dict.fromkeys(recipe.reconstructions))
    stores = [open_store(locate(execution.workspace, ref, "reconstructions")) for ref in refs]
    dataset = _common_dataset(stores)
    ref = addresses.of_scores(recipe)
    target = _score_store(recipe, stores, join(execution.workspace, ref))
    title = f"Evaluating {dataset or ref}"

    def work() -> Events:
        job = _job(execution.workspace, stores, dataset, target.uri)
        return map_shards(evaluate_shard, job, target, execution)

    def finish() -> None:
        write_scores(target.uri, rows_of(target))
        target.finish(manifest={"n_slices": target.n})
        _write_tables_of_parts(execution.workspace, target)

    fill(target, execution, title, work, finish)
    # Also of one that is done: the table may be damaged, and the records have all that is in it.
    write_scores(target.uri, rows_of(target))
    _write_table(execution.workspace, target.uri)
    remove_unfinished(target.uri)
    show_table(target.uri, f"Metrics of {len(stores)} reconstructions of {dataset or 'measured data'}")
    return ref


def _score_store(recipe: EvaluateRecipe, stores: Sequence[ShardedStore], uri: str) -> ShardedStore:
    """The store of the scores, made where it is not there yet; of joined reconstructions it is joined alike."""

    def about(part: int | None) -> About:
        pairs = zip(dict.fromkeys(recipe.reconstructions), stores, strict=True)
        refs = {ref: part_reference(ref, store, part) for ref, store in pairs}
        of_part = recipe.model_copy(update={"reconstructions": tuple(refs[ref] for ref in recipe.reconstructions)})
        dataset = _common_dataset([part_of(store, part) for store in stores])
        return About(addresses.of_scores(of_part), {"recipe": of_part.model_dump(mode="json"), "dataset": dataset})

    return create_alike(stores[0], uri, {}, about)


def _write_tables_of_parts(workspace: str, scores: ShardedStore) -> None:
    for part in (part for part in parts_of(scores) if part.is_finished()):
        write_scores(part.uri, rows_of(part))
        _write_table(workspace, part.uri)


def _write_table(workspace: str, uri: str) -> None:
    if size_of(join(uri, "table.md")):
        return
    section = section_of(workspace, uri)
    text = f"## {section.heading}\n\n{headline_table(section)}\n"
    write_bytes(join(uri, "table.md"), text.encode())


def _job(workspace: str, stores: list[ShardedStore], dataset: str, target: str) -> EvaluateJob:
    candidates = tuple(_candidate(workspace, store) for store in stores)
    return EvaluateJob(
        dataset=locate(workspace, dataset, "datasets") if dataset else "", candidates=candidates, target=target
    )


def _candidate(workspace: str, store: ShardedStore) -> Candidate:
    uri = locate(workspace, store.attrs["recipe"]["measurements"], "measurements")
    named = str(store.attrs["recipe"]["reconstruction"].get("calibration", ""))
    return Candidate(
        uri=store.uri,
        measurements=uri,
        measurement=simulation_of(open_store(uri)).measurement,
        calibration=locate_calibration(workspace, named) if named else "",
    )


def _common_dataset(stores: list[ShardedStore]) -> str:
    """The reference of the images that all are of; empty if all are of one scan, whose truth nobody has."""
    refs = {store.attrs["dataset"] or store.attrs["recipe"]["measurements"] for store in stores}
    if len(refs) > 1:
        raise UserError(f"reconstructions of different data sets cannot share a table: {sorted(refs)}")
    return str(stores[0].attrs["dataset"])
