"""Train a prior: stream the training's log, show how far it is, stop it with the flow."""

import math
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial

from prefect import task
from prefect.artifacts import update_progress_artifact
from prefect.logging import get_run_logger

from scoreinv.contract import PriorContract
from scoreinv.errors import UserError
from scoreinv.priors import require_coarse
from scoreinv.spec import digest_of
from scoreinv.training.best import mean_log
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import Denoising
from storage.datasets import DatasetStore
from storage.errors import StoreError, StoreHeld
from storage.joined import open_store
from storage.lease import Watch
from storage.models import load, read_contract
from storage.uri import join, remove_unfinished, size_of, write_json
from tasks.checks import require_shared
from tasks.progress import progress_artifact
from tasks.recipes import TrainRecipe
from tasks.running.owned import await_turn
from tasks.running.shards import Execution
from tasks.running.stopping import stoppable
from tasks.running.torchrun import torchrun
from tasks.workers.training.curve import read_curve
from tasks.workers.training.train_job import TrainJob
from tasks.workspace import locate, locate_prior, reference, subjects_of


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
    recipe, log = _with_subjects_as_known(recipe, execution.workspace), get_run_logger()
    require_shared(execution.workspace)
    initial = locate_prior(execution.workspace, recipe.initial)
    initial_sha256 = _require_more_images(initial, recipe) if initial else ""
    coarse, coarse_sha256 = coarse_part(recipe, execution.workspace)
    ref = reference("priors", recipe.address(initial_sha256, coarse_sha256 if recipe.coarse else ""))
    target = join(execution.workspace, ref)
    if is_trained(target, recipe):
        log.info("%s has seen %d images: nothing to do", ref, recipe.training.n_images)
        return ref
    job = TrainJob(
        recipe=recipe,
        datasets=tuple(locate(execution.workspace, d, "datasets") for d in recipe.datasets),
        target=target,
        trunk=join(execution.workspace, reference("trainings", recipe.trunk(initial_sha256))),
        initial=initial,
        initial_sha256=initial_sha256,
        coarse=coarse,
        coarse_sha256=coarse_sha256,
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


def _require_more_images(initial: str, recipe: TrainRecipe) -> str:
    """The sha256 of the weights to go on from, which have seen fewer images than the training is to see."""
    contract, n_images = read_contract(initial), recipe.training.n_images
    if contract.images_seen >= n_images:
        raise UserError(
            f"initial={recipe.initial} has seen {contract.images_seen} images, and training.n_images={n_images} counts "
            "these: raise it to that number and the images to come"
        )
    return contract.sha256


def coarse_part(recipe: TrainRecipe, workspace: str) -> tuple[str, str]:
    """The prior that gives the coarse part of what is published, and the sha256 of its weights; empty if there is none.

    It is the one that the recipe names, or the one to go on from, if that has such a part and the images are the same.

    Raises:
        UserError: if the recipe names one that is not of the low frequencies of the images to train on.
    """
    uri = locate_prior(workspace, recipe.coarse or recipe.initial)
    contract = read_contract(uri) if uri else None
    if contract is None:
        return "", ""
    image = DatasetStore.open(locate(workspace, recipe.datasets[0], "datasets")).contract
    if recipe.coarse:
        if not isinstance(contract, PriorContract) or not isinstance(recipe.objective, Denoising):
            raise UserError(f"coarse={recipe.coarse} is for priors, of priors: leave it out")
        require_coarse(contract, image, recipe.name)
        return uri, contract.sha256
    has_part = isinstance(contract, PriorContract) and contract.coarse is not None and contract.image == image
    return (uri, contract.sha256) if has_part else ("", "")


def _with_subjects_as_known(recipe: TrainRecipe, workspace: str) -> TrainRecipe:
    """What is kept of the recipe, and its address, name people as the data sets do: perhaps by hashes.

    A share of the people has become their names, so that a recipe that names the same people is the same training.
    """
    if not recipe.validation_subjects and not recipe.validation_share:
        return recipe
    datasets = [locate(workspace, one, "datasets") for one in recipe.datasets]
    named = subjects_of(workspace, datasets, recipe.validation_subjects)
    known = {subject for uri in datasets for subject in DatasetStore.open(uri).listing.subjects()}
    chosen = share_of(sorted(known - set(named)), recipe.validation_share)
    return recipe.model_copy(update={"validation_subjects": (*named, *chosen), "validation_share": 0.0})


def share_of(subjects: Sequence[str], share: float) -> tuple[str, ...]:
    """A share of the subjects, rounded up and sorted: those whose names have the lowest digests.

    Somebody who joins changes at most who is next to the border.
    """
    n = math.ceil(share * len(subjects) - 1e-9)
    return tuple(sorted(sorted(subjects, key=digest_of)[:n]))


def is_trained(target: str, recipe: TrainRecipe) -> bool:
    """Whether the prior in a folder is whole, has seen its images and says of itself what the recipe says."""
    prior = join(target, "prior")
    try:
        _, contract = load(prior)
    except StoreError:
        return False
    texts = (contract.name, tuple(contract.training_data), contract.licence)
    has_texts = texts == (recipe.name, recipe.training_data, recipe.licence) and bool(size_of(join(prior, "card.md")))
    return has_texts and _has_seen(target, contract.images_seen, recipe.training)


def _has_seen(target: str, images_seen: int, training: TrainSpec) -> bool:
    """Whether a model that has seen so many images is the last that its training publishes.

    The best one may be from before the end; then the curve has got to the end, and none of its rows is better.
    """
    if images_seen >= training.n_images or not training.keeps_best:
        return images_seen >= training.n_images
    rows = [row for row in read_curve(target) if row.validation_rmse]
    is_over = bool(rows) and rows[-1].images_seen >= training.n_images
    return is_over and min(rows, key=lambda row: mean_log(row.validation_rmse)).images_seen == images_seen


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
