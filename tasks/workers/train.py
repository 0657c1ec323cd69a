"""One process of a training, started by torchrun:  torchrun ... -m tasks.workers.train JOB.json

Process 0 validates, writes checkpoints and publishes; every line it prints is streamed to the flow's log.
It ends by itself when the process that launched it goes away.
"""

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

import scoreinv
from scoreinv.contract import ImageContract, PriorContract
from scoreinv.denoiser import log_uniform_sigmas
from scoreinv.spec import Spec
from scoreinv.training.checkpoint import build_model, checkpoint_bytes, restore, weights_bytes
from scoreinv.training.data import ImageBatches, balanced_weights
from scoreinv.training.loop import TrainState, TrainStep, train
from scoreinv.training.loss import denoising_curve
from storage.datasets import DatasetStore
from storage.models import publish
from storage.uri import exists, join, read_bytes, write_bytes
from tasks.recipes import TrainRecipe

N_VALIDATION = 64
"""Held-out images per validation: enough for 1 % precision of the error, a few seconds on a CPU."""


class TrainJob(Spec):
    """What to train, from which stores, and where to."""

    recipe: TrainRecipe
    datasets: tuple[str, ...]
    target: str
    n_threads: int
    device: str = "auto"


def main(path: str) -> None:
    """Train one process's part of the job described in a JSON file."""
    _end_with_parent()
    with open(path) as file:
        job = TrainJob.model_validate_json(file.read())
    torch.set_num_threads(job.n_threads)
    with _process_group() as (rank, n_ranks):
        _train(job, rank, n_ranks)


def _train(job: TrainJob, rank: int, n_ranks: int) -> None:
    device = _device(job.device, rank)
    contract, batches, held_out = _data(job, device)
    recipe = job.recipe
    model = build_model(recipe.network, recipe.preconditioning, seed=recipe.training.seed).to(device)
    state = TrainState.fresh(model, recipe.training)
    if exists(join(job.target, "checkpoint.pt")):
        restore(state, read_bytes(join(job.target, "checkpoint.pt")), recipe.address())
        _say(rank, f"resumed after {state.images_seen} images")
    start, losses = time.monotonic(), list[float]()
    next_stop = state.images_seen + recipe.validate_every
    for step in train(state, batches, recipe.training, rank=rank, n_ranks=n_ranks):
        losses.append(step.loss)
        is_last = step.images_seen >= recipe.training.n_images
        if step.images_seen >= next_stop or is_last:
            next_stop += recipe.validate_every
            if rank == 0:
                _stop_over(job, state, step, contract, held_out, losses, time.monotonic() - start)
            losses.clear()
            start = time.monotonic()


def _stop_over(
    job: TrainJob,
    state: TrainState,
    step: TrainStep,
    contract: ImageContract,
    held_out: Tensor,
    losses: list[float],
    seconds: float,
) -> None:
    levels = job.recipe.training.levels
    sigmas = log_uniform_sigmas(9, levels.sigma_min, levels.sigma_max)
    curve = denoising_curve(state.ema.model, held_out, sigmas) if len(held_out) else torch.zeros(0)
    row = {
        "images_seen": step.images_seen,
        "loss": float(np.mean(losses)),
        "learning_rate": step.learning_rate,
        "seconds": seconds,
        "sigmas": [float(s) for s in sigmas],
        "validation_rmse": [float(e) for e in curve],
    }
    _append(join(job.target, "curve.jsonl"), row)
    write_bytes(join(job.target, "checkpoint.pt"), checkpoint_bytes(state, job.recipe.address()))
    _publish(job, state, contract)
    rmse = " ".join(f"{e:.4f}" for e in curve)
    print(f"images {step.images_seen} loss {row['loss']:.4f} validation rmse {rmse} ({seconds:.0f} s)", flush=True)


def _publish(job: TrainJob, state: TrainState, image: ImageContract) -> None:
    recipe, levels = job.recipe, job.recipe.training.levels
    weights = weights_bytes(state.ema.model)
    contract = PriorContract(
        name=recipe.name,
        image=image,
        network=recipe.network.model_dump(mode="json"),
        preconditioning=recipe.preconditioning.model_dump(mode="json"),
        sigma_min=levels.sigma_min,
        sigma_max=levels.sigma_max,
        training_data=list(recipe.training_data),
        licence=recipe.licence,
        images_seen=state.images_seen,
        sha256=hashlib.sha256(weights).hexdigest(),
        versions={"scoreinv": scoreinv.__version__, "torch": torch.__version__},
    )
    publish(join(job.target, "prior"), weights, contract)


def _data(job: TrainJob, device: torch.device) -> tuple[ImageContract, ImageBatches, Tensor]:
    stores = [DatasetStore.open(uri) for uri in job.datasets]
    contract = stores[0].contract
    for store in stores[1:]:
        if store.contract != contract:
            raise ValueError(f"{store.uri} holds {store.contract} but {stores[0].uri} holds {contract}: ingest them alike")
    images = torch.cat([_images(store) for store in stores])[:, None]
    weights = torch.cat(_weights(job.recipe, stores))
    is_held_out = weights == 0
    if bool(is_held_out.all()):
        raise ValueError("validation_subjects holds every subject: nothing is left to train on")
    batches = ImageBatches(
        images[~is_held_out],
        contract.size,
        weights=weights[~is_held_out],
        augmentation=job.recipe.augmentation,
        device=device,
    )
    return contract, batches, _validation_images(images[is_held_out], contract.size).to(device)


def _weights(recipe: TrainRecipe, stores: list[DatasetStore]) -> list[Tensor]:
    """Chance of each image of each data set; 0 for those of held-out subjects."""
    shares = recipe.shares or tuple(float(len(store)) for store in stores)
    if len(shares) != len(stores):
        raise ValueError(f"shares has {len(shares)} numbers for {len(stores)} data sets: give one for each, or none")
    weights = []
    for share, store in zip(shares, stores, strict=True):
        subjects = [record.subject_id for record in store.records]
        is_free = torch.tensor([s not in recipe.validation_subjects for s in subjects])
        weights.append(share * balanced_weights(subjects, power=recipe.balance_power) * is_free)
    return weights


def _images(store: DatasetStore) -> Tensor:
    read = store.fine_images if store.fine_factor > 1 else store.images
    return torch.from_numpy(read(0, len(store)))


def _validation_images(images: Tensor, size: int) -> Tensor:
    if len(images) > N_VALIDATION:
        images = images[torch.linspace(0, len(images) - 1, N_VALIDATION).long()]
    return F.avg_pool2d(images, images.shape[-1] // size) if len(images) else images


def _append(uri: str, row: dict[str, object]) -> None:
    before = read_bytes(uri) if exists(uri) else b""
    write_bytes(uri, before + json.dumps(row).encode() + b"\n")


def _device(device: str, rank: int) -> torch.device:
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    return torch.device("cuda")


@contextmanager
def _process_group() -> Iterator[tuple[int, int]]:
    n_ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if n_ranks == 1:
        yield 0, 1
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank(), n_ranks
    finally:
        dist.destroy_process_group()


def _say(rank: int, text: str) -> None:
    if rank == 0:
        print(text, flush=True)


def _end_with_parent() -> None:
    # PR_SET_PDEATHSIG = 1: the kernel ends this process when its parent dies, even by SIGKILL. Linux only.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1])
