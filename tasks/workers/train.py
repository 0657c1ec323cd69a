"""One process of a training, as torchrun starts it through tasks.workers.launch.

Each process holds all images in memory. Process 0 validates, writes checkpoints and publishes; every line it prints
is streamed to the flow's log. Checkpoints come first and the contract comes last, so a prior that says it has seen
enough images is whole, and a training that was killed at any moment goes on.

Trainings that differ in their length alone share a trunk: a folder with the checkpoint that all of them go on from,
until each parts from it for its cooldown or its end. From there on a training's checkpoint lies with its prior.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

import scoreinv
from scoreinv.contract import PriorContract
from scoreinv.denoiser import log_uniform_sigmas
from scoreinv.errors import UserError
from scoreinv.spec import Spec
from scoreinv.training.checkpoint import build_model, checkpoint_bytes, go_on_from, restore, weights_bytes
from scoreinv.training.data import ImageBatches
from scoreinv.training.loop import TrainState, TrainStep, train
from scoreinv.training.loss import denoising_curve
from storage.errors import StoreError
from storage.holds import held
from storage.models import is_whole_archive, load, publish, read_contract, remove_all_but
from storage.uri import exists, join, read_bytes, write_bytes
from tasks.recipes import TrainRecipe
from tasks.workers.curve import CurveRow, add_row, read_curve, write_curve
from tasks.workers.prior_card import prior_card
from tasks.workers.prior_pictures import sampling_grid, write_pictures
from tasks.workers.priors import pick_device
from tasks.workers.training_images import TrainingImages, read_images

N_SIGMAS = 9
"""Noise levels at which the error on held-out images is measured."""
CHECKPOINT = "checkpoint.pt"
PROGRESS_SECONDS = 30.0
CHECKPOINT_SECONDS = 300.0
"""A training that is stopped between two validations loses no more than this."""
PATIENCE = timedelta(hours=12)
"""The other processes wait this long for process 0, which validates and draws samples alone."""


class TrainJob(Spec):
    """What to train, from which stores, and where to."""

    recipe: TrainRecipe
    datasets: tuple[str, ...]
    target: str
    """The folder of the prior."""
    trunk: str
    """The folder that it shares with trainings of other lengths."""
    initial: str = ""
    initial_sha256: str = ""
    n_threads: int
    device: str = "auto"


def main(path: str) -> None:
    """Train one process's part of the job described in a JSON file."""
    with open(path) as file:
        job = TrainJob.model_validate_json(file.read())
    torch.set_num_threads(job.n_threads)
    device = _device(job.device)
    # Process 0 writes for all, and trainings of other lengths write to the same trunk.
    with _process_group(device) as (rank, n_ranks), held(job.trunk) if rank == 0 else nullcontext():
        _train(job, device, rank, n_ranks)


def _train(job: TrainJob, device: torch.device, rank: int, n_ranks: int) -> None:
    recipe = job.recipe
    images = read_images(recipe, job.datasets)
    state, is_shared = _state(job, device, rank)
    batches = ImageBatches(
        images.images, images.contract.size, weights=images.weights, augmentation=recipe.augmentation, device=device
    )
    steps = train(state, batches, recipe.training, rank=rank, n_ranks=n_ranks)
    if rank == 0:
        print(_describe_start(state, images, device), flush=True)
        steps = _with_progress(steps, state.images_seen, recipe.training.n_images)
        _follow(job, state, images, _with_checkpoints(steps, job, state, is_shared), is_shared)
    else:
        for _ in steps:
            pass


def _describe_start(state: TrainState, images: TrainingImages, device: torch.device) -> str:
    n = sum(parameter.numel() for parameter in state.model.parameters())
    held_out = f"{len(images.held_out)} held-out ones to validate on"
    return f"training {n} parameters on {device} from {len(images.images)} images, {held_out}"


def _state(job: TrainJob, device: torch.device, rank: int) -> tuple[TrainState, bool]:
    """The state to go on from, and whether it is on the trunk that trainings of other lengths share."""
    own, shared = (join(folder, CHECKPOINT) for folder in (job.target, job.trunk))
    if _is_usable(own, rank):
        return _restored(job, own, device, rank), False
    if not _is_usable(shared, rank):
        return _first_state(job, device, rank), True
    state = _restored(job, shared, device, rank)
    if not job.recipe.training.has_parted(state.images_seen):
        if rank == 0:
            write_curve(job.target, [row for row in read_curve(job.trunk) if row.images_seen <= state.images_seen])
        return state, True
    if rank == 0:
        print("a longer training is past where this one parts from it: beginning anew", flush=True)
    return _first_state(job, device, rank), False


def _restored(job: TrainJob, checkpoint: str, device: torch.device, rank: int) -> TrainState:
    state = _untrained(job.recipe, device)
    restore(state, read_bytes(checkpoint), job.recipe.trunk(job.initial_sha256))
    if rank == 0:
        print(f"resumed after {state.images_seen} images", flush=True)
    return state


def _first_state(job: TrainJob, device: torch.device, rank: int) -> TrainState:
    """That of the prior to go on from, or a fresh one."""
    state = _untrained(job.recipe, device)
    if job.initial:
        weights, contract = load(job.initial, sha256=job.initial_sha256)
        go_on_from(state, weights, contract.images_seen)
        if rank == 0:
            print(f"goes on from {job.recipe.initial}, which has seen {state.images_seen} images", flush=True)
    return state


def _untrained(recipe: TrainRecipe, device: torch.device) -> TrainState:
    model = build_model(recipe.network, recipe.preconditioning, seed=recipe.training.seed).to(device)
    if device.type == "cpu" and not recipe.training.is_bfloat16:
        # Backward convolutions in float32 take 15 % less time so, unlike everything else.
        model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return TrainState.fresh(model, recipe.training)


def _is_usable(checkpoint: str, rank: int) -> bool:
    """Whether there is a checkpoint that is whole; of a damaged one nothing can be used."""
    if not exists(checkpoint):
        return False
    is_whole = is_whole_archive(read_bytes(checkpoint))
    if not is_whole and rank == 0:
        print(f"{checkpoint} is damaged: what it held is made again", flush=True)
    return is_whole


def _with_progress(steps: Iterator[TrainStep], seen_before: int, total: int) -> Iterator[TrainStep]:
    """The steps, with a line of progress about every half minute."""
    start = last = time.monotonic()
    for step in steps:
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last, rate = now, (step.images_seen - seen_before) / (now - start)
            left = timedelta(seconds=round((total - step.images_seen) / rate))
            print(f"images {step.images_seen} of {total}, {rate:.1f} images/s, about {left} left", flush=True)
        yield step


def _with_checkpoints(
    steps: Iterator[TrainStep], job: TrainJob, state: TrainState, is_shared: bool
) -> Iterator[TrainStep]:
    """The steps, with a checkpoint every few minutes, after what the validations do with a step."""
    last = time.monotonic()
    for step in steps:
        yield step
        if time.monotonic() - last >= CHECKPOINT_SECONDS:
            _save(job, state, is_shared)
            last = time.monotonic()


def _save(job: TrainJob, state: TrainState, is_shared: bool) -> None:
    """Put a checkpoint into the trunk as long as it is everybody's, else beside the prior; the last one there too."""
    content = checkpoint_bytes(state, job.recipe.trunk(job.initial_sha256))
    in_trunk = is_shared and not job.recipe.training.has_parted(state.images_seen)
    if in_trunk:
        write_curve(job.trunk, read_curve(job.target))
        write_bytes(join(job.trunk, CHECKPOINT), content)
    if not in_trunk or state.images_seen >= job.recipe.training.n_images:
        write_bytes(join(job.target, CHECKPOINT), content)


def _follow(
    job: TrainJob, state: TrainState, images: TrainingImages, steps: Iterator[TrainStep], is_shared: bool
) -> None:
    """Save and publish at every validation; pictures at the end, also of a training that had only those to do."""
    total = job.recipe.training.n_images
    for row in _rows(job.recipe, state, images.held_out, steps):
        add_row(job.target, row)
        _save(job, state, is_shared)
        if state.images_seen < total:
            _publish(job, state, images)
        print(_describe(row, total), flush=True)
    levels = job.recipe.training.levels
    grid = sampling_grid(levels.sigma_min, levels.sigma_max)
    write_pictures(job.target, state.ema.model, images.contract.size, grid)
    _publish(job, state, images)


def _rows(recipe: TrainRecipe, state: TrainState, held_out: Tensor, steps: Iterator[TrainStep]) -> Iterator[CurveRow]:
    """One row for every ``validate_every`` images and one at the end; training waits while a row is used."""
    start, losses, every = time.monotonic(), list[float](), recipe.validate_every
    next_stop = (state.images_seen // every + 1) * every
    for step in steps:
        losses.append(step.loss)
        if step.images_seen >= min(next_stop, recipe.training.n_images):
            next_stop += every
            row = _row(recipe, step, float(np.mean(losses)), time.monotonic() - start)
            yield _validated(row, state, held_out)
            start, losses = time.monotonic(), []


def _row(recipe: TrainRecipe, step: TrainStep, loss: float, seconds: float) -> CurveRow:
    levels = recipe.training.levels
    return CurveRow(
        images_seen=step.images_seen,
        loss=loss,
        learning_rate=step.learning_rate,
        seconds=seconds,
        sigmas=tuple(log_uniform_sigmas(N_SIGMAS, levels.sigma_min, levels.sigma_max).tolist()),
    )


def _validated(row: CurveRow, state: TrainState, held_out: Tensor) -> CurveRow:
    if not len(held_out):
        return row
    images = held_out.to(next(state.model.parameters()).device)
    errors = denoising_curve(state.ema.model, images, torch.tensor(row.sigmas))
    return row.model_copy(update={"validation_rmse": tuple(errors.tolist())})


def _describe(row: CurveRow, total: int) -> str:
    rmse = " ".join(f"{error:.4f}" for error in row.validation_rmse) or "none, as no subject is held out"
    return f"images {row.images_seen} of {total}, loss {row.loss:.4f}, validation rmse {rmse} ({row.seconds:.0f} s)"


def _publish(job: TrainJob, state: TrainState, images: TrainingImages) -> None:
    prior, weights = join(job.target, "prior"), weights_bytes(state.ema.model)
    contract = _contract(job.recipe, state, images, hashlib.sha256(weights).hexdigest())
    kept = {contract.sha256, _published_sha256(prior)}
    curve, initial = read_curve(job.target), job.recipe.initial
    card = prior_card(contract, curve, len(images.images), initial=initial, images_before=state.images_before)
    write_bytes(join(prior, "card.md"), card.encode())
    publish(prior, weights, contract)
    # The weights before these stay: somebody may have read their contract just now.
    remove_all_but(prior, kept)


def _published_sha256(prior: str) -> str:
    try:
        return read_contract(prior).sha256
    except StoreError:
        # There is none, or it is damaged.
        return ""


def _contract(recipe: TrainRecipe, state: TrainState, images: TrainingImages, sha256: str) -> PriorContract:
    levels = recipe.training.levels
    return PriorContract(
        name=recipe.name,
        image=images.contract,
        network=recipe.network.model_dump(mode="json"),
        preconditioning=recipe.preconditioning.model_dump(mode="json"),
        sigma_min=levels.sigma_min,
        sigma_max=levels.sigma_max,
        training_data=list(recipe.training_data),
        licence=recipe.licence,
        images_seen=state.images_seen,
        sha256=sha256,
        versions={"scoreinv": scoreinv.__version__, "torch": torch.__version__},
    )


def _device(name: str) -> torch.device:
    device, index = pick_device(name), int(os.environ.get("LOCAL_RANK", "0"))
    if device.type != "cuda":
        return device
    if index >= torch.cuda.device_count():
        raise UserError(f"there is no GPU for process {index + 1}: lower execution.training.n_processes")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


@contextmanager
def _process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks == 1:
        yield 0, 1
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield dist.get_rank(), n_ranks
    finally:
        dist.destroy_process_group()
