"""One process of a training, as torchrun starts it through tasks.workers.training.launch.

Process 0 validates, writes checkpoints and publishes; every line it prints is streamed to the flow's log. Checkpoints
come first and the contract comes last, so a model that says it has seen enough images is whole, and a training that was
killed at any moment goes on.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from scoreinv.errors import UserError
from scoreinv.training.best import best_half_life, better_of
from scoreinv.training.data import Batches, ImageBatches
from scoreinv.training.device import compile_networks, prefer_speed
from scoreinv.training.loop import TrainState, TrainStep, train
from storage.lease import Lease, leased
from storage.mapped import remove_mapped
from tasks.recipes import TrainRecipe
from tasks.workers.priors import pick_device, require_compiler
from tasks.workers.training.checkpoints import Begun, begin, save
from tasks.workers.training.curve import CurveRow, add_row
from tasks.workers.training.publishing import picture_model, publish_model
from tasks.workers.training.train_job import TrainJob
from tasks.workers.training.training_images import TrainingImages, for_device, read_images

PROGRESS_SECONDS = 30.0
CHECKPOINT_SECONDS = 300.0
"""A training that is stopped between two validations loses no more than this."""
CLOCK_STEPS = 8
"""Several processes ask each other in so many steps once whether the time is up."""
PATIENCE = timedelta(hours=12)
"""The other processes wait this long for process 0, which validates and draws samples alone."""


def main(path: str) -> None:
    """Train one process's part of the job described in a JSON file."""
    start = time.monotonic()
    with open(path) as file:
        job = TrainJob.model_validate_json(file.read())
    torch.set_num_threads(job.launch.n_threads)
    device = _device(job.device)
    # Process 0 writes for all, and trainings of other lengths write to the same trunk.
    with _process_group(device) as (rank, n_ranks), leased(job.trunk) if rank == 0 else nullcontext() as lease:
        _train(job, device, lease, rank, n_ranks, start=start)


def _train(job: TrainJob, device: torch.device, lease: Lease | None, rank: int, n_ranks: int, *, start: float) -> None:
    recipe, launch = job.recipe, job.launch
    images = read_images(recipe, job.datasets, max_gib=launch.memory_gib, cache=launch.cache)
    prefer_speed(device)
    begun = begin(job, images.contract, device, is_first=rank == 0)
    if launch.is_compiled:
        require_compiler(device)
        compile_networks(begun.state.model.get_submodule("network"))
    steps = train(
        begun.state,
        _batches(recipe, images, device),
        recipe.objective,
        recipe.training,
        rank=rank,
        n_ranks=n_ranks,
        n_at_once=launch.n_at_once,
    )
    if launch.max_minutes:
        steps = _until(steps, start + 60 * launch.max_minutes, device, n_ranks)
    if lease:
        _follow(job, lease, begun, images, steps)
    else:
        for _ in steps:
            pass


def _batches(recipe: TrainRecipe, images: TrainingImages, device: torch.device) -> Batches:
    stored = for_device(images.images, device)
    drawn = ImageBatches(
        stored,
        images.side,
        weights=images.weights,
        augmentation=recipe.augmentation,
        device=device,
        band=recipe.band,
    )
    return recipe.objective.batches(drawn, images.contract)


def _follow(job: TrainJob, lease: Lease, begun: Begun, images: TrainingImages, steps: Iterator[TrainStep]) -> None:
    """Save and publish at every validation; pictures at the end, also of a training that had only those to do.

    Raises:
        LeaseLost: if another process trains by now; nothing of its is replaced.
    """
    state, total = begun.state, job.recipe.training.n_images
    print(_describe_start(state, images), flush=True)
    _validate_start(job, state, images)
    steps = _with_checkpoints(_with_progress(steps, state.images_seen, total), job, lease, begun)
    for row in _rows(job.recipe, state, images, steps):
        lease.require()
        add_row(job.target, row)
        save(job, state, begun.is_shared)
        if state.images_seen < total:
            publish_model(job, state, images)
        print(_describe(row, total), flush=True)
    picture_model(job, state, images)
    publish_model(job, state, images)
    if state.images_seen < total:
        print(f"{job.launch.max_minutes:g} minutes are up: the same command goes on from here", flush=True)
    elif images.file is not None:
        remove_mapped(images.file)


def _validate_start(job: TrainJob, state: TrainState, images: TrainingImages) -> None:
    """Put the errors of the weights that a training goes on from into its curve, before its first step."""
    if state.images_seen == state.images_before > 0 and len(images.held_out):
        row = _row(job.recipe, state, images, learning_rate=0.0, loss=None, seconds=0.0)
        add_row(job.target, row)
        print(f"before the first step: {_describe_errors(row)}", flush=True)


def _describe_start(state: TrainState, images: TrainingImages) -> str:
    parameters = [one for model in state.models.values() for one in model.parameters()]
    n, device = sum(one.numel() for one in parameters), parameters[0].device
    held_out = f"{len(images.held_out)} held-out ones to validate on"
    return f"training {n} parameters on {device} from {len(images.images)} images, {held_out}"


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


def _with_checkpoints(steps: Iterator[TrainStep], job: TrainJob, lease: Lease, begun: Begun) -> Iterator[TrainStep]:
    """The steps, with a checkpoint every few minutes, after what the validations do with a step."""
    last = time.monotonic()
    for step in steps:
        yield step
        lease.refuse_lost()
        if time.monotonic() - last >= CHECKPOINT_SECONDS:
            lease.require()
            save(job, begun.state, begun.is_shared)
            last = time.monotonic()


def _until(steps: Iterator[TrainStep], end: float, device: torch.device, n_ranks: int) -> Iterator[TrainStep]:
    """The steps until the time is up, by the clock of process 0, so that all make the same last step."""
    for index, step in enumerate(steps):
        yield step
        is_up = time.monotonic() >= end
        if n_ranks > 1:
            is_up = index % CLOCK_STEPS == 0 and _as_process_0(is_up, device)
        if is_up:
            return


def _as_process_0(value: bool, device: torch.device) -> bool:
    answer = torch.tensor([value], dtype=torch.uint8, device=device)
    dist.broadcast(answer, 0)
    return bool(answer)


def _rows(
    recipe: TrainRecipe, state: TrainState, images: TrainingImages, steps: Iterator[TrainStep]
) -> Iterator[CurveRow]:
    """One row for every ``validate_every`` images and one at the last; training waits while a row is used."""
    start, last, losses, every = time.monotonic(), None, list[torch.Tensor](), recipe.validate_every
    next_stop = (state.images_seen // every + 1) * every
    for last in steps:
        losses.append(last.loss)
        if last.images_seen >= min(next_stop, recipe.training.n_images):
            next_stop += every
            yield _row(recipe, state, images, last.learning_rate, _mean(losses), time.monotonic() - start)
            start, losses = time.monotonic(), []
    if last is not None and losses:
        yield _row(recipe, state, images, last.learning_rate, _mean(losses), time.monotonic() - start)


def _row(
    recipe: TrainRecipe,
    state: TrainState,
    images: TrainingImages,
    learning_rate: float,
    loss: float | None,
    seconds: float,
) -> CurveRow:
    errors = _errors(recipe, state, images)
    best = best_half_life(errors) if errors else 0
    if errors and recipe.training.keeps_best:
        state.best = better_of(state.best, state.emas, errors, state.images_seen)
    return CurveRow(
        images_seen=state.images_seen,
        loss=loss,
        learning_rate=learning_rate,
        seconds=seconds,
        sigmas=recipe.objective.sigmas(),
        validation_rmse=errors.get(best, ()),
        half_life=best if len(errors) > 1 else 0,
        rmse_by_half_life=errors if len(errors) > 1 else {},
    )


def _mean(losses: list[torch.Tensor]) -> float:
    return float(np.mean([float(loss) for loss in losses]))


def _errors(recipe: TrainRecipe, state: TrainState, images: TrainingImages) -> dict[int, tuple[float, ...]]:
    """On held-out images, of each average by its half-life."""
    if not len(images.held_out):
        return {}
    held_out = images.held_out.to(next(state.model.parameters()).device)
    return {int(ema.half_life): recipe.objective.errors(ema.model, held_out, images.contract) for ema in state.emas}


def _describe(row: CurveRow, total: int) -> str:
    return f"images {row.images_seen} of {total}, loss {row.loss:.4f}, {_describe_errors(row)} ({row.seconds:.0f} s)"


def _describe_errors(row: CurveRow) -> str:
    rmse = " ".join(f"{error:.4f}" for error in row.validation_rmse) or "none, as no subject is held out"
    best = f", best half-life {row.half_life}" if row.half_life else ""
    return f"validation rmse {rmse}{best}"


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
