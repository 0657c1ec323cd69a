"""Reconstruct one shard: all posterior samples of its slices, their mean and their deviation."""

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, Step, run
from scoreinv.spec import Spec
from storage.shards import Shard, ShardedStore
from tasks.recipes import Reconstruction, Simulation
from tasks.shards import Report
from tasks.workers.priors import image_contract, load_prior, pick_device, require_match


class ReconstructJob(Spec):
    """Where the data are, where the images go, with which prior and how many at a time."""

    measurements: str
    target: str
    prior: str
    simulation: Simulation
    reconstruction: Reconstruction
    batch_size: int
    device: str


class Task(NamedTuple):
    """One posterior sample of one slice, by its place in the shard."""

    place: int
    slice_id: str
    sample: int


def reconstruct_shard(job: ReconstructJob, index: int, report: Report) -> None:
    """Write mean, deviation and first sample of one shard; the record holds seconds and network calls."""
    start = time.perf_counter()
    target = ShardedStore.open(job.target, finished=False)
    shard = target.plan()[index]
    samples, nfe = _sample(job, shard, report)
    arrays = {"sample": samples[0]}
    if len(samples) > 1:
        # The deviation of a sample, not of a population: with four samples the difference is 15 %.
        arrays |= {"mean": samples.mean(0), "std": samples.std(0, ddof=1)}
    seconds = time.perf_counter() - start
    record = {"nfe": nfe, "seconds": seconds, "seconds_per_slice": seconds / (shard.stop - shard.start)}
    target.write(shard, arrays, record=record)


def _sample(job: ReconstructJob, shard: Shard, report: Report) -> tuple[np.ndarray, int]:
    measurements = ShardedStore.open(job.measurements)
    device = pick_device(job.device)
    problem = _problem(job, measurements, shard, device)
    denoiser = _denoiser(job, measurements)
    names = measurements.attrs["slice_ids"][shard.start : shard.stop]
    n_samples, n_calls = job.reconstruction.n_samples, max(job.reconstruction.method.n_calls, 1)
    todo = [Task(place, name, sample) for place, name in enumerate(names) for sample in range(n_samples)]
    samples = np.empty((n_samples, len(names), *problem.operator.image_shape[1:]), np.float32)
    nfe, done, batch_size = 0, 0, job.batch_size
    while done < len(todo):
        batch = todo[done : done + batch_size]
        try:
            for step in _steps(job.reconstruction, problem, denoiser, batch):
                report((done + step.nfe / n_calls * len(batch)) / len(todo))
        except torch.cuda.OutOfMemoryError:
            batch_size = _halved(batch_size)
            continue
        for task, image in zip(batch, step.x.cpu().numpy(), strict=True):
            samples[task.sample, task.place] = image[0]
        nfe, done = step.nfe, done + len(batch)
    return samples, nfe


def _steps(
    choice: Reconstruction, problem: InverseProblem, denoiser: Denoiser | None, batch: list[Task]
) -> Iterator[Step]:
    places = torch.tensor([task.place for task in batch], device=problem.y.device)
    part = InverseProblem(problem.operator, problem.y[places], problem.noise_std)
    noise = Noise(choice.seed, [task.slice_id for task in batch], [task.sample for task in batch])
    with torch.no_grad():
        yield from run(choice.method, part, denoiser, noise=noise)


def _problem(job: ReconstructJob, measurements: ShardedStore, shard: Shard, device: torch.device) -> InverseProblem:
    contract = image_contract(measurements.attrs)
    operator = job.simulation.measurement.operator(contract.size).to(device)
    y = torch.from_numpy(measurements.read("y", shard.start, shard.stop)).to(device)
    noise_std = float(measurements.manifest()["noise_std"])
    if not math.isfinite(noise_std):
        raise ValueError(f"noise_std of {measurements.uri} is {noise_std}: make the measurements again")
    return InverseProblem(operator, y, noise_std)


def _denoiser(job: ReconstructJob, measurements: ShardedStore) -> Denoiser | None:
    if not job.prior:
        return None
    model, contract = load_prior(job.prior, job.device, job.reconstruction.precision)
    require_match(contract, image_contract(measurements.attrs))
    return model


def _halved(batch_size: int) -> int:
    if batch_size == 1:
        raise MemoryError("one image at a time does not fit into the GPU's memory: use a smaller prior or a larger GPU")
    torch.cuda.empty_cache()
    return batch_size // 2
