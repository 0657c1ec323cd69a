"""What a training publishes: weights, contract, card and pictures, the contract last."""

import copy
import hashlib
from contextlib import suppress

from torch import nn

from scoreinv.contract import Contract, ImageContract, PriorContract
from scoreinv.priors import joined, prior_from
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
    """Publish the average that was best at the last validation, or at any, as the recipe wants it.

    Where the weights that it began from were better, these are published.
    """
    place, (weights, contract) = join(job.target, "prior"), _published(job, state, images)
    kept = {contract.sha256, _published_sha256(place)}
    curve, initial, n_images = read_curve(job.target), _initial(job, images.contract), len(images.images)
    card = prior_card(contract, curve, n_images, initial=initial, images_before=state.images_before)
    write_bytes(join(place, "card.md"), card.encode())
    publish(place, weights, contract)
    # The weights before these stay: somebody may have read their contract just now.
    remove_all_but(place, kept)


def _published(job: TrainJob, state: TrainState, images: TrainingImages) -> tuple[bytes, Contract]:
    """Weights and contract, with the coarse part that the job names."""
    weights = weights_bytes(_best(job, state))
    sha256 = hashlib.sha256(weights).hexdigest()
    images_seen = state.best.images_seen if state.best else state.images_seen
    contract = contract_of(job.recipe, images.contract, images_seen=images_seen, sha256=sha256)
    contract = contract.model_copy(update={"slices": _slices(job, images)})
    if not job.coarse or not isinstance(contract, PriorContract):
        return weights, contract
    coarse_weights, coarse = load(job.coarse, sha256=job.coarse_sha256)
    assert isinstance(coarse, PriorContract)
    share = job.recipe.coarse_share if job.recipe.coarse else None
    return joined(weights, contract, (coarse_weights, coarse), share=share)


def _slices(job: TrainJob, images: TrainingImages) -> tuple[str, ...]:
    """Checksums of what it was trained on, and what it began with and its coarse part, as far as that is known."""
    known = set(images.slices)
    for one in filter(None, (job.initial, job.coarse)):
        with suppress(StoreError):
            # It was needed at the beginning alone, and may be gone.
            known.update(read_contract(one).slices)
    return tuple(sorted(known))


def picture_model(job: TrainJob, state: TrainState, images: TrainingImages) -> None:
    """Put pictures beside the model: of how it learned, and of a prior also what it draws."""
    objective = job.recipe.objective
    if isinstance(objective, Denoising):
        weights, contract = _published(job, state, images)
        assert isinstance(contract, PriorContract)
        model = prior_from(weights, contract, device=next(state.ema.model.parameters()).device)
        grid = sampling_grid(objective.levels.sigma_min, objective.levels.sigma_max)
        write_pictures(job.target, model, images.contract, grid)
    else:
        write_curve_picture(job.target)


def _best(job: TrainJob, state: TrainState) -> nn.Module:
    if state.best:
        model = copy.deepcopy(state.ema.model)
        model.load_state_dict(state.best.weights)
        return model
    curve = read_curve(job.target)
    if is_start_best(curve):
        return load_weights(copy.deepcopy(state.ema.model), load(job.initial, sha256=job.initial_sha256)[0])
    half_life = curve[-1].half_life if curve else 0
    return next((ema.model for ema in state.emas if ema.half_life == half_life), state.ema.model)


def _initial(job: TrainJob, image: ImageContract) -> str:
    """The model that the training went on from, with its grid if that is another one; empty: none."""
    if not job.recipe.initial:
        return ""
    try:
        began = read_contract(job.initial).image
    except StoreError:
        # It was needed at the beginning alone.
        return job.recipe.initial
    if (began.size, began.pixel_mm) == (image.size, image.pixel_mm):
        return job.recipe.initial
    return f"{job.recipe.initial}, which is for {began.size} x {began.size} pixels of {began.pixel_mm:g} mm"


def _published_sha256(place: str) -> str:
    try:
        return read_contract(place).sha256
    except StoreError:
        # There is none, or it is damaged.
        return ""
