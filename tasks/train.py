"""Train a prior: stream the training's log, show how far it is, stop it with the flow."""

import re
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial

from prefect import task
from prefect.artifacts import update_progress_artifact
from prefect.logging import get_run_logger

from scoreinv.errors import UserError
from storage.errors import StoreHeld
from storage.joined import open_store
from storage.lease import Watch
from storage.uri import join, remove_unfinished, write_json
from tasks.checks import require_shared
from tasks.progress import progress_artifact
from tasks.recipes import TrainRecipe
from tasks.running.owned import await_turn
from tasks.running.shards import Execution
from tasks.running.stopping import stoppable
from tasks.running.torchrun import torchrun
from tasks.trained import is_trained, of_prior, origin_of, with_subjects_as_known
from tasks.workers.training.curve import read_curve
from tasks.workers.training.train_job import TrainJob
from tasks.workspace import locate, reference


@task(name="train")
@stoppable
def train(recipe: TrainRecipe, execution: Execution) -> str:
    """The reference of the trained prior; goes on from its checkpoint, or one of another length, where there is one.

    Raises:
        RuntimeError: if the training ended with an error, which is in the message.
        StoreHeld: if another process trains this prior, or it with another length, and ``execution.when_busy`` is
            "fail"; says which one. Otherwise it is followed.
        UserError: if the workspace is in the memory of this process, or if the weights to go on from have seen as many
            images as this training is to see.
    """
    recipe, log = with_subjects_as_known(recipe, execution.workspace), get_run_logger()
    require_shared(execution.workspace)
    origin = origin_of(recipe, execution.workspace)
    ref = of_prior(recipe, origin)
    target = join(execution.workspace, ref)
    if is_trained(target, recipe):
        log.info("%s has seen %d images: nothing to do", ref, recipe.training.n_images)
        return ref
    job = TrainJob(
        recipe=recipe,
        datasets=tuple(locate(execution.workspace, d, "datasets") for d in recipe.datasets),
        target=target,
        trunk=join(execution.workspace, reference("trainings", recipe.trunk(origin.initial_sha256))),
        **origin._asdict(),
        launch=execution.training,
        device=execution.device,
    )
    for uri in job.datasets:
        open_store(uri)
    write_json(join(target, "recipe.json"), recipe.model_dump(mode="json"))
    in_turn(job, execution, lambda: _follow(torchrun(job, execution.training.n_processes), f"Training {ref}"))
    return ref


def in_turn(job: TrainJob, execution: Execution, run: Callable[[], None]) -> None:
    """Train as soon as nobody else trains this prior, or it with another length, unless the other has done it all.

    Its first process holds the lease of the trunk: when the command was killed, that lives on for a moment.
    """
    told: list[int] = []
    while True:
        await_turn([job.trunk], execution, partial(_tell_progress, job, told))
        if is_trained(job.target, job.recipe):
            return
        try:
            run()
            remove_unfinished(job.target)
            return
        except (UserError, StoreHeld):
            # Another command was quicker, or this one was stopped for so long that it was taken for dead.
            if Watch(job.trunk).owner() is None and not is_trained(job.target, job.recipe):
                raise


def _tell_progress(job: TrainJob, told: list[int]) -> None:
    rows = read_curve(job.target)
    if rows and rows[-1].images_seen not in told:
        told.append(rows[-1].images_seen)
        get_run_logger().info("images %d of %d", told[-1], job.recipe.training.n_images)


def progress_of(line: str) -> float | None:
    """The percentage that a line "images N of M ..." of a training tells; None for other lines."""
    found = re.match(r"images (\d+) of (\d+)\b", line)
    return min(100.0, 100 * int(found[1]) / int(found[2])) if found else None


def _follow(lines: Generator[str, None, None], title: str) -> None:
    artifact, log = progress_artifact(title), get_run_logger()
    with closing(lines):
        for line in lines:
            log.info(line)
            percent = progress_of(line)
            if percent is not None:
                update_progress_artifact(artifact, progress=percent)
