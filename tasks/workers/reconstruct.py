"""Reconstruct one shard: all posterior samples of its slices, their mean and their deviation."""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from scoreinv.cross_validation import expected_mse, parts
from scoreinv.noise import Noise
from scoreinv.operators.linear import ProjectorName
from scoreinv.problem import InverseProblem, Model, Step, run
from scoreinv.spec import Json, Spec
from storage.errors import StoreError
from storage.shards import Shard, ShardedStore
from tasks.recipes import Reconstruction, Simulation
from tasks.running.shards import Report, Stopped
from tasks.workers.calibrate import EXPECTED, estimate_of, load_calibration
from tasks.workers.priors import image_contract, load_model, pick_device, require_match
from tasks.workers.stores import as_images, open_store, read_measured, read_names


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
    calibration: str = ""
    """Of the intervals, where the reconstruction names one."""
    known: tuple[str, ...] = ()
    """Where the same images lie, or some of them, with less beside them: no method is called for those."""


VERSION = 2
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


class Drawn(NamedTuple):
    """Samples (n_samples, n_slices, n_channels, height, width), and the network calls that one of them took.

    ``failures`` says of each slice_id that has no image why; its samples are NaN.
    """

    samples: np.ndarray
    nfe: int
    failures: Mapping[str, str]


def reconstruct_shard(job: ReconstructJob, index: int, report: Report) -> None:
    """Write mean, deviation and first sample of one shard; the record holds costs, failures and what is expected."""
    target = open_store(job.target, finished=False)
    shard = target.plan()[index]
    is_checked = job.reconstruction.is_cross_validated
    arrays, record = _known(job, shard) or _made(job, shard, lambda share: report(share / (1 + is_checked)))
    if is_checked and EXPECTED not in record:
        record |= {EXPECTED: _expected_mse(job, shard, lambda share: report((1 + share) / 2))}
    if job.calibration:
        arrays["half_width"] = _half_widths(job, arrays, shard, record)
    target.write(shard, {name: _stored(target, name, values) for name, values in arrays.items()}, record=record)


def _made(job: ReconstructJob, shard: Shard, report: Report) -> tuple[dict[str, np.ndarray], dict[str, Json]]:
    """Arrays (n, n_channels, height, width) and the record of a shard, by the method."""
    start = time.perf_counter()
    inputs = load_inputs(job, range(shard.start, shard.stop))
    samples, nfe, failures = draw_samples(job.reconstruction, inputs, job.batch_size, report)
    arrays = {"sample": samples[0]}
    if len(samples) > 1:
        # The deviation of a sample, not of a population: with four samples the difference is 15 %.
        arrays |= {"mean": samples.mean(0), "std": samples.std(0, ddof=1)}
    seconds = time.perf_counter() - start
    record: dict[str, Json] = {
        "nfe": nfe,
        "seconds": seconds,
        "seconds_per_slice": seconds / (shard.stop - shard.start),
    }
    # Only where there are some: records are part of what stores made before this hold.
    record |= {"failures": dict(failures)} if failures else {}
    return arrays, record


def _expected_mse(job: ReconstructJob, shard: Shard, report: Report) -> list[Json]:
    """What views that are left out say of each slice; None of one on which the method fails without them."""
    inputs = load_inputs(job, range(shard.start, shard.stop))
    kept, left_out = parts(inputs.problem)
    drawn = draw_samples(job.reconstruction, inputs._replace(problem=kept), job.batch_size, report)
    images = torch.from_numpy(drawn.samples.mean(0)).to(left_out.y.device)
    return [value if math.isfinite(value) else None for value in expected_mse(images, left_out).tolist()]


def _known(job: ReconstructJob, shard: Shard) -> tuple[dict[str, np.ndarray], dict[str, Json]] | None:
    """The same from where the images lie already; None where they do not, or are damaged: then they are made."""
    contract = image_contract(open_store(job.measurements).attrs)
    for uri in job.known:
        try:
            known = open_store(uri, finished=False)
            read = {name: known.read(name, shard.start, shard.stop) for name in known.layouts}
            record = known.record(shard.index)
        except StoreError:
            continue
        return {name: as_images(values, contract).numpy() for name, values in read.items()}, record
    return None


def _half_widths(
    job: ReconstructJob, arrays: Mapping[str, np.ndarray], shard: Shard, record: Mapping[str, Any]
) -> np.ndarray:
    """Of the 90 % intervals, (n, 1, height, width)."""
    measurements = open_store(job.measurements)
    problem = _problem(job, measurements, range(shard.start, shard.stop))
    at = {name: torch.from_numpy(values).to(problem.y.device) for name, values in arrays.items()}
    made, std = at.get("mean", at["sample"]), at.get("std")
    calibration = load_calibration(job.calibration)
    seen = estimate_of(made.nan_to_num(), std, problem, calibration.image, record.get(EXPECTED))
    widths = calibration.half_width(seen, level=0.9)
    return torch.where(made.isfinite().flatten(1).all(1)[:, None, None, None], widths, torch.nan).cpu().numpy()


def _stored(target: ShardedStore, name: str, values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), *target.layouts[name].shape)


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


def draw_samples(choice: Reconstruction, inputs: Inputs, batch_size: int, report: Report) -> Drawn:
    """All samples of all slices.

    A slice on which the method fails, or whose image is not finite, spoils no other: its batch is done again slice by
    slice. What fails for the machine's sake (memory, files) raises, and so does a method that fails on every slice.

    Raises:
        MemoryError: if not even one image at a time fits into the GPU's memory.
    """
    n_samples, n_calls = choice.n_samples, max(choice.method.n_calls, 1)
    todo = [Task(place, name, sample) for place, name in enumerate(inputs.slice_ids) for sample in range(n_samples)]
    samples = np.full((n_samples, len(inputs.slice_ids), *inputs.problem.operator.image_shape), np.nan, np.float32)
    errors: dict[int, Exception] = {}
    nfe, done, batches = 0, 0, _batches(todo, batch_size)
    while batches:
        batch = batches.popleft()
        try:
            for step in _steps(choice, inputs, batch):
                report((done + step.nfe / n_calls * len(batch)) / len(todo))
        except torch.cuda.OutOfMemoryError:
            batches = _batches([*batch, *(task for later in batches for task in later)], _halved(len(batch)))
            continue
        except Exception as error:
            if is_the_machines(error):
                raise
            if len(batch) > 1:
                batches.extendleft([task] for task in reversed(batch))
                continue
            errors[batch[0].place] = error
        else:
            nfe = step.nfe
            for task, image in zip(batch, step.x.cpu().numpy(), strict=True):
                samples[task.sample, task.place] = image
        done += len(batch)
    if errors and len(errors) == len(inputs.slice_ids):
        raise next(iter(errors.values()))
    return Drawn(samples, nfe, _failures(samples, inputs.slice_ids, errors))


def is_the_machines(error: Exception) -> bool:
    """Whether the same values might do on another machine, or in another run."""
    # torch has no one class for a device's faults in all the versions that serve.
    device = isinstance(error, RuntimeError) and "CUDA" in str(error)
    return device or isinstance(error, Stopped | MemoryError | OSError | StoreError)


def _batches(todo: Sequence[Task], size: int) -> deque[list[Task]]:
    return deque(list(todo[start : start + size]) for start in range(0, len(todo), size))


def _failures(samples: np.ndarray, slice_ids: Sequence[str], errors: Mapping[int, Exception]) -> dict[str, str]:
    """Why slices have no image, by their names; what is there of their samples is made NaN."""
    bad = ~np.isfinite(samples).all(axis=(0, 2, 3, 4))
    samples[:, bad] = np.nan
    said = {place: f"{type(error).__name__}: {error}" for place, error in errors.items()}
    return {slice_ids[place]: said.get(place, "the image is not finite") for place in np.flatnonzero(bad).tolist()}


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
