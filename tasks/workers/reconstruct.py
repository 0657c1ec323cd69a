"""Reconstruct one shard: all posterior samples of its slices, their mean and their deviation."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from scoreinv.noise import Noise
from scoreinv.operators.linear import ProjectorName
from scoreinv.problem import InverseProblem, Model, Step, run
from scoreinv.spec import Spec
from storage.shards import ShardedStore
from tasks.recipes import Reconstruction, Simulation
from tasks.running.shards import Report
from tasks.workers.priors import image_contract, load_model, pick_device, require_match
from tasks.workers.stores import open_store, read_measured, read_names


class ReconstructJob(Spec):
    """Where the data are, where the images go, with which prior and how many at a time."""

    measurements: str
    target: str
    prior: str
    prior_sha256: str = ""
    """Of the weights: those and no others, also if the prior is published anew meanwhile."""
    simulation: Simulation
    reconstruction: Reconstruction
    batch_size: int
    device: str
    is_compiled: bool = False
    projector: ProjectorName = "matrix"


VERSION = 1
"""Of what all methods share (denoisers, data steps, random streams): part of the address of reconstructions and
tunings, raised when images change. What belongs to one method has that method's ``version``."""


class Task(NamedTuple):
    """One posterior sample of one slice, by its place in the shard."""

    place: int
    slice_id: str
    sample: int


class Inputs(NamedTuple):
    """Slices to reconstruct: their names, their data, and the trained model."""

    slice_ids: list[str]
    problem: InverseProblem
    model: Model | None


def reconstruct_shard(job: ReconstructJob, index: int, report: Report) -> None:
    """Write mean, deviation and first sample of one shard; the record holds seconds and network calls."""
    start = time.perf_counter()
    target = open_store(job.target, finished=False)
    shard = target.plan()[index]
    inputs = load_inputs(job, range(shard.start, shard.stop))
    samples, nfe = draw_samples(job.reconstruction, inputs, job.batch_size, report)
    arrays = {"sample": samples[0]}
    if len(samples) > 1:
        # The deviation of a sample, not of a population: with four samples the difference is 15 %.
        arrays |= {"mean": samples.mean(0), "std": samples.std(0, ddof=1)}
    arrays = {name: values.reshape(len(values), *target.layouts[name].shape) for name, values in arrays.items()}
    seconds = time.perf_counter() - start
    record = {"nfe": nfe, "seconds": seconds, "seconds_per_slice": seconds / (shard.stop - shard.start)}
    target.write(shard, arrays, record=record)


def load_inputs(job: ReconstructJob, places: Sequence[int]) -> Inputs:
    """The data of the slices in these places of the measurements, and the model, on the job's device.

    Raises:
        ValueError: if the model is for other images or data, or there is no such device.
    """
    measurements = open_store(job.measurements)
    return Inputs(
        slice_ids=read_names(measurements, places),
        problem=_problem(job, measurements, places),
        model=_model(job, measurements),
    )


def draw_samples(choice: Reconstruction, inputs: Inputs, batch_size: int, report: Report) -> tuple[np.ndarray, int]:
    """All samples (n_samples, n_slices, n_channels, height, width), and the network calls that one of them took.

    Raises:
        MemoryError: if not even one image at a time fits into the GPU's memory.
    """
    n_samples, n_calls = choice.n_samples, max(choice.method.n_calls, 1)
    todo = [Task(place, name, sample) for place, name in enumerate(inputs.slice_ids) for sample in range(n_samples)]
    samples = np.empty((n_samples, len(inputs.slice_ids), *inputs.problem.operator.image_shape), np.float32)
    nfe, done = 0, 0
    while done < len(todo):
        batch = todo[done : done + batch_size]
        try:
            for step in _steps(choice, inputs, batch):
                report((done + step.nfe / n_calls * len(batch)) / len(todo))
        except torch.cuda.OutOfMemoryError:
            batch_size = _halved(batch_size)
            continue
        for task, image in zip(batch, step.x.cpu().numpy(), strict=True):
            samples[task.sample, task.place] = image
        nfe, done = step.nfe, done + len(batch)
    return samples, nfe


def _steps(choice: Reconstruction, inputs: Inputs, batch: list[Task]) -> Iterator[Step]:
    problem = inputs.problem
    places = torch.tensor([task.place for task in batch], device=problem.y.device)
    noise = Noise(choice.seed, [task.slice_id for task in batch], [task.sample for task in batch])
    with torch.no_grad():
        yield from run(choice.method, problem.part(places), inputs.model, noise=noise)


def _problem(job: ReconstructJob, measurements: ShardedStore, places: Sequence[int]) -> InverseProblem:
    measured, contract = read_measured(measurements, places), image_contract(measurements.attrs)
    data = measured.to(pick_device(job.device))
    return InverseProblem.of(job.simulation.measurement, data, contract, projector=job.projector)


def _model(job: ReconstructJob, measurements: ShardedStore) -> Model | None:
    if not job.prior:
        return None
    choice, measurement = job.reconstruction, job.simulation.measurement
    model, contract = load_model(job.prior, job.device, choice.precision, job.is_compiled, sha256=job.prior_sha256)
    require_match(contract, image_contract(measurements.attrs), method=choice.method, measurement=measurement)
    return model


def _halved(batch_size: int) -> int:
    if batch_size == 1:
        raise MemoryError("one image at a time does not fit into the GPU's memory: use a smaller prior or a larger GPU")
    torch.cuda.empty_cache()
    return batch_size // 2
