"""Where a training begins, and the checkpoints from which it goes on.

Trainings that differ in their length alone share a trunk: a folder with the checkpoint that all of them go on from,
until each parts from it for its cooldown or its end. From there on a training's checkpoint lies with its model.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from scoreinv.contract import ImageContract
from scoreinv.training.checkpoint import build_models, checkpoint_bytes, go_on_from, restore
from scoreinv.training.device import laid_out
from scoreinv.training.loop import TrainState
from storage.models import is_whole_archive, load
from storage.uri import exists, join, read_bytes, write_bytes
from tasks.workers.training.curve import read_curve, write_curve
from tasks.workers.training.train_job import TrainJob

CHECKPOINT = "checkpoint.pt"


class Begun(NamedTuple):
    """A state to go on from, and whether it is on the trunk that trainings of other lengths share."""

    state: TrainState
    is_shared: bool


def begin(job: TrainJob, image: ImageContract, device: torch.device, *, is_first: bool) -> Begun:
    """The state of the training's own checkpoint, of the trunk's, of the model to go on from, or a new one.

    The first process says which, and takes over the trunk's curve.
    """
    say = print if is_first else _say_nothing
    state, training = _untrained(job, image, device), job.recipe.training
    if own := _checkpoint(join(job.target, CHECKPOINT), say):
        restore(state, own, job.trunk_digest())
        say(f"resumed after {state.images_seen} images")
        return Begun(state, is_shared=False)
    if shared := _checkpoint(join(job.trunk, CHECKPOINT), say):
        restore(state, shared, job.trunk_digest())
        if not training.has_parted(state.images_seen):
            say(f"resumed after {state.images_seen} images")
            if is_first:
                write_curve(job.target, [row for row in read_curve(job.trunk) if row.images_seen <= state.images_seen])
            return Begun(state, is_shared=True)
        say("a longer training is past where this one parts from it: beginning anew")
        state = _untrained(job, image, device)
    if job.initial:
        weights, contract = load(job.initial, sha256=job.initial_sha256)
        go_on_from(state, weights, contract.images_seen)
        say(f"goes on from {job.recipe.initial}, which has seen {state.images_seen} images")
    return Begun(state, is_shared=not shared)


def save(job: TrainJob, state: TrainState, is_shared: bool) -> None:
    """Put a checkpoint into the trunk as long as it is everybody's, else beside the model; the last one there too."""
    content = checkpoint_bytes(state, job.trunk_digest())
    in_trunk = is_shared and not job.recipe.training.has_parted(state.images_seen)
    if in_trunk:
        write_curve(job.trunk, read_curve(job.target))
        write_bytes(join(job.trunk, CHECKPOINT), content)
    if not in_trunk or state.images_seen >= job.recipe.training.n_images:
        write_bytes(join(job.target, CHECKPOINT), content)


def _checkpoint(uri: str, say: Callable[[str], None]) -> bytes:
    """A checkpoint that is whole, else nothing; of a damaged one nothing can be used."""
    content = read_bytes(uri) if exists(uri) else b""
    if not content or is_whole_archive(content):
        return content
    say(f"{uri} is damaged: what it held is made again")
    return b""


def _say_nothing(text: str) -> None:
    pass


def _untrained(job: TrainJob, image: ImageContract, device: torch.device) -> TrainState:
    recipe = job.recipe
    is_bfloat16, is_compiled = recipe.training.is_bfloat16, job.launch.is_compiled
    models = {
        name: laid_out(model, device, is_bfloat16=is_bfloat16, is_compiled=is_compiled)
        for name, model in build_models(recipe.objective, recipe.network, image, seed=recipe.training.seed).items()
    }
    return TrainState.fresh(models, recipe.training)
