"""Simulate the measurement of a data set."""

from prefect import task

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.noise import Noise
from scoreinv.operators import AnyMeasurement
from scoreinv.spec import Json
from storage.datasets import DatasetStore
from storage.joined import About, create_alike
from storage.shards import ArrayLayout, ShardedStore
from storage.uri import join
from tasks import addresses
from tasks.checks import require_fit
from tasks.recipes import MeasureRecipe
from tasks.running.owned import fill
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.workers.measure import MeasureJob, measure_shard
from tasks.workers.stores import CONTEXT
from tasks.workspace import locate, part_reference


@task(name="measure", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def measure(recipe: MeasureRecipe, execution: Execution) -> str:
    """The reference of the measurements, made where they are not there yet."""
    dataset_uri = locate(execution.workspace, recipe.dataset, "datasets")
    dataset = DatasetStore.open(dataset_uri)
    ref = addresses.of_measurements(recipe)
    store = measurement_store(recipe, dataset, join(execution.workspace, ref))
    job = MeasureJob(dataset=dataset_uri, target=store.uri, simulation=recipe.simulation)
    title = f"Measuring {recipe.dataset}"
    fill(store, execution, title, lambda: map_shards(measure_shard, job, store, execution), store.finish)
    return ref


def measurement_store(recipe: MeasureRecipe, dataset: DatasetStore, uri: str) -> ShardedStore:
    """The store of the measurements, made where it is not there yet; of a joined data set it is joined alike."""
    _check(recipe, dataset)
    image = dataset.contract.model_dump(mode="json")
    fine_factor = dataset.fine_factor if recipe.simulation.uses_fine_images else 1

    def about(part: int | None) -> About:
        of_part = recipe.model_copy(update={"dataset": part_reference(recipe.dataset, dataset.shards, part)})
        attrs: dict[str, Json] = {"recipe": of_part.model_dump(mode="json"), "image": image, "fine_factor": fine_factor}
        return About(addresses.of_measurements(of_part), attrs)

    return create_alike(dataset.shards, uri, layouts(recipe.simulation.measurement, dataset.contract), about)


def layouts(measurement: AnyMeasurement, image: ImageContract) -> dict[str, ArrayLayout]:
    """The arrays of a store of measurements: data, noise, and what the operator needs of each slice."""
    context = measurement.context(image.size, Noise(0, [""], purpose="context"))
    operator = measurement.operator(image.size, context, n_channels=image.n_channels)
    return {
        "y": ArrayLayout(operator.data_shape, "complex64" if operator.is_complex else "float32"),
        "noise_std": ArrayLayout(operator.data_shape if measurement.noise.is_per_ray else ()),
        **{CONTEXT + name: ArrayLayout(tuple(one.shape[1:]), str(one.numpy().dtype)) for name, one in context.items()},
    }


def _check(recipe: MeasureRecipe, dataset: DatasetStore) -> None:
    require_fit(recipe.simulation.measurement, dataset.contract)
    if recipe.simulation.uses_fine_images and dataset.fine_factor == 1:
        raise UserError(f"uses_fine_images needs a finer grid, but {recipe.dataset} was ingested with fine_factor=1")
