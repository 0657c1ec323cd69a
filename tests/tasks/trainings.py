"""Trainings that are small enough to run on a CPU in seconds."""

from pathlib import Path
from typing import Any

from scoreinv.contract import ImageContract
from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.unet import UNet
from scoreinv.training.augment import Augmentation
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import Denoising
from storage.datasets import DatasetStore
from storage.models import read_contract
from storage.sources.phantom import PhantomSource
from tasks.recipes import TrainRecipe
from tasks.running.shards import Launch
from tasks.workers.training import train as worker
from tasks.workers.training.train_job import TrainJob

SIZE = 16
RECIPE = TrainRecipe(
    name="tiny",
    datasets=("datasets/phantoms",),
    network=UNet(patch=2, n_features=8, channel_multipliers=(1, 2), n_blocks=1, has_position=True),
    objective=Denoising(
        preconditioning=EDMPreconditioning(mean=0.3, sigma_data=0.3),
        levels=LogNormalLevels(sigma_min=0.01, sigma_max=10.0, sigma_data=0.3),
    ),
    training=TrainSpec(
        n_images=160,
        batch_size=8,
        learning_rate=2e-3,
        warmup_images=0,
        ema_half_life=40,
    ),
    augmentation=Augmentation(),
    validation_subjects=("phantom-3",),
    validate_every=48,
    training_data=("Phantoms (public domain)",),
    licence="CC0",
)


def ingested(uri: str, source: PhantomSource, *, fine_factor: int = 2, size: int = SIZE, pixel_mm: float = 20.0) -> str:
    """A data set of phantoms in a folder, made without Prefect and Dask."""
    contract = ImageContract(modality="ct", size=size, pixel_mm=pixel_mm, low=-1000, high=1000)
    store = DatasetStore.create(
        uri, source.listing(), contract=contract, recipe={}, fine_factor=fine_factor, shard_size=8
    )
    for shard in store.shards.plan():
        store.ingest(shard, source.load)
    store.finish()
    return store.uri


def job_for(dataset: str, target: Path, **changes: Any) -> TrainJob:
    """A job on one CPU thread; changes are to the recipe, n_images and cooldown_images to its training."""
    launch = Launch(n_threads=1, **changes.pop("launch", {}))
    lengths = {name: changes.pop(name) for name in ("n_images", "cooldown_images") if name in changes}
    recipe = RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update=lengths), **changes})
    trunk = str(target.parent / "trunk")
    return TrainJob(recipe=recipe, datasets=(dataset,), target=str(target), trunk=trunk, launch=launch, device="cpu")


def longer(recipe: TrainRecipe, n_images: int) -> TrainRecipe:
    """The recipe until so many images are seen."""
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"n_images": n_images})})


def going_on(job: TrainJob, trained: Path, name: str) -> TrainJob:
    """The job from the weights that a training published in its folder, which the recipe calls by a name."""
    uri = str(trained / "prior")
    recipe = job.recipe.model_copy(update={"initial": name})
    return job.model_copy(update={"recipe": recipe, "initial": uri, "initial_sha256": read_contract(uri).sha256})


def run_here(job: TrainJob, folder: Path) -> None:
    """Train in this process, as a single trainer does."""
    path = folder / "job.json"
    path.write_text(job.model_dump_json())
    worker.main(str(path))
