"""What a training publishes: weights, contract, card and pictures, the contract last."""

import copy
import hashlib

from torch import nn

from scoreinv.denoiser import ScoreModel
from scoreinv.training.checkpoint import load_weights, weights_bytes
from scoreinv.training.loop import TrainState
from scoreinv.training.objectives import Denoising
from storage.errors import StoreError
from storage.models import load, publish, read_contract, remove_all_but
from storage.uri import join, write_bytes
from tasks.workers.contracts import contract_of
from tasks.workers.training.curve import is_start_best, read_curve
from tasks.workers.training.prior_card import prior_card
from tasks.workers.training.prior_pictures import sampling_grid, write_curve_picture, write_pictures
from tasks.workers.training.train_job import TrainJob
from tasks.workers.training.training_images import TrainingImages


def publish_model(job: TrainJob, state: TrainState, images: TrainingImages) -> None:
    """Publish the average that was best at the last validation, or the weights it began from where these are better."""
    place, weights = join(job.target, "prior"), weights_bytes(_best(job, state))
    sha256 = hashlib.sha256(weights).hexdigest()
    contract = contract_of(job.recipe, images.contract, images_seen=state.images_seen, sha256=sha256)
    kept = {contract.sha256, _published_sha256(place)}
    curve, initial = read_curve(job.target), job.recipe.initial
    card = prior_card(contract, curve, len(images.images), initial=initial, images_before=state.images_before)
    write_bytes(join(place, "card.md"), card.encode())
    publish(place, weights, contract)
    # The weights before these stay: somebody may have read their contract just now.
    remove_all_but(place, kept)


def picture_model(job: TrainJob, state: TrainState, images: TrainingImages) -> None:
    """Put pictures beside the model: of how it learned, and of a prior also what it draws."""
    model, objective = _best(job, state), job.recipe.objective
    if isinstance(objective, Denoising) and isinstance(model, ScoreModel):
        grid = sampling_grid(objective.levels.sigma_min, objective.levels.sigma_max)
        write_pictures(job.target, model, images.contract, grid)
    else:
        write_curve_picture(job.target)


def _best(job: TrainJob, state: TrainState) -> nn.Module:
    curve = read_curve(job.target)
    if is_start_best(curve):
        return load_weights(copy.deepcopy(state.ema.model), load(job.initial, sha256=job.initial_sha256)[0])
    half_life = curve[-1].half_life if curve else 0
    return next((ema.model for ema in state.emas if ema.half_life == half_life), state.ema.model)


def _published_sha256(place: str) -> str:
    try:
        return read_contract(place).sha256
    except StoreError:
        # There is none, or it is damaged.
        return ""
