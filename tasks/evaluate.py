"""Compare reconstructions with the images that were measured."""

from prefect import task

from storage.datasets import DatasetStore
from storage.scores import write_scores
from storage.shards import ShardedStore
from storage.uri import join
from tasks.progress import follow
from tasks.recipes import EvaluateRecipe
from tasks.retry import worth_retrying
from tasks.shards import Execution, map_shards
from tasks.workers.evaluate import EvaluateJob, evaluate_shard
from tasks.workspace import locate, reference


@task(name="evaluate", retries=1, retry_condition_fn=worth_retrying)
def evaluate(recipe: EvaluateRecipe, execution: Execution) -> str:
    """The reference of the scores: one row per slice, method and estimate."""
    uris = tuple(locate(execution.workspace, ref, "reconstructions") for ref in recipe.reconstructions)
    stores = [ShardedStore.open(uri) for uri in uris]
    dataset_ref = _common_dataset(stores)
    dataset_uri = locate(execution.workspace, dataset_ref, "datasets")
    ref = reference("scores", recipe.digest())
    target = ShardedStore.create(
        join(execution.workspace, ref),
        n=stores[0].n,
        shard_size=stores[0].shard_size,
        arrays={},
        attrs={"recipe": recipe.model_dump(mode="json"), "dataset": dataset_ref},
    )
    if not target.is_finished():
        job = EvaluateJob(dataset=dataset_uri, reconstructions=uris, target=target.uri)
        follow(map_shards(evaluate_shard, job, target, execution), target, f"Evaluating {dataset_ref}")
        write_scores(target.uri, [row for record in target.records() for row in record["rows"]])
        target.finish(manifest={"n_slices": len(DatasetStore.open(dataset_uri))})
    return ref


def _common_dataset(stores: list[ShardedStore]) -> str:
    refs = {store.attrs["dataset"] for store in stores}
    if len(refs) > 1:
        raise ValueError(f"reconstructions of different data sets cannot share a table: {sorted(refs)}")
    return str(refs.pop())
