"""Train a prior: stream the training's log, show how far it is, stop it with the flow."""

import re
from collections.abc import Generator
from contextlib import closing

from prefect import task
from prefect.artifacts import update_progress_artifact
from prefect.logging import get_run_logger

from storage.errors import StoreError
from storage.holds import refuse_held
from storage.models import load
from storage.shards import ShardedStore
from storage.uri import join, size_of, write_json
from tasks.progress import progress_artifact
from tasks.recipes import TrainRecipe
from tasks.shards import Execution
from tasks.stopping import stoppable
from tasks.torchrun import torchrun
from tasks.workers.train import TrainJob
from tasks.workspace import locate, locate_prior, reference

PATIENCE_SECONDS = 15.0
"""The processes of a training whose command was killed end within this time, and then it is taken over."""


@task(name="train")
@stoppable
def train(recipe: TrainRecipe, execution: Execution) -> str:
    """The reference of the trained prior; goes on from its checkpoint where there is one.

    Raises:
        RuntimeError: if the training ended with an error, which is in the message.
        StoreHeld: if another process trains this prior; says which one.
    """
    ref, log = reference("priors", recipe.address()), get_run_logger()
    target = join(execution.workspace, ref)
    if is_trained(target, recipe.training.n_images):
        log.info("%s has seen %d images: nothing to do", ref, recipe.training.n_images)
        return ref
    job = TrainJob(
        recipe=recipe,
        datasets=tuple(locate(execution.workspace, d, "datasets") for d in recipe.datasets),
        target=target,
        initial=locate_prior(execution.workspace, recipe.initial) if recipe.initial else "",
        n_threads=execution.training.n_threads,
        device=execution.device,
    )
    for uri in job.datasets:
        ShardedStore.open(uri)
    refuse_held(target, patience=PATIENCE_SECONDS)
    write_json(join(target, "recipe.json"), recipe.model_dump(mode="json"))
    _follow(torchrun(job, execution.training.n_processes), target, f"Training {ref}")
    return ref


def is_trained(target: str, n_images: int) -> bool:
    """Whether the prior in a folder has seen so many images, is whole, and has its card."""
    prior = join(target, "prior")
    try:
        _, contract = load(prior)
    except StoreError:
        return False
    return bool(size_of(join(prior, "card.md"))) and contract.images_seen >= n_images


def progress_of(line: str) -> float | None:
    """The percentage that a line "images N of M ..." of a training tells; None for other lines."""
    found = re.match(r"images (\d+) of (\d+)\b", line)
    return min(100.0, 100 * int(found[1]) / int(found[2])) if found else None


def _follow(lines: Generator[str, None, None], target: str, title: str) -> None:
    artifact, log = progress_artifact(target, title), get_run_logger()
    with closing(lines):
        for line in lines:
            log.info(line)
            percent = progress_of(line)
            if percent is not None:
                update_progress_artifact(artifact, progress=percent)
