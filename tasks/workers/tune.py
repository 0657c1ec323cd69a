"""One trial of a tuning on some of its slices: reconstruct them, and compare them with the truth."""

import time

import numpy as np
import torch

from scoreinv.spec import Json, Spec
from storage.shards import ShardedStore
from tasks.running.shards import Report
from tasks.workers.evaluate import cells, image_columns
from tasks.workers.reconstruct import ReconstructJob, draw_samples, is_the_machines, load_inputs
from tasks.workers.stores import as_images, open_dataset

METRICS = ("psnr", "ssim", "psnr_circle", "ssim_circle")
"""All are kept of every trial, whichever one is tuned."""


class TuneJob(Spec):
    """What a trial reconstructs and how, which slices, by their places in the data set, and where the truth is."""

    reconstruct: ReconstructJob
    dataset: str
    places: tuple[int, ...]


def tune_shard(job: TuneJob, index: int, report: Report) -> None:
    """Write no array: the record holds metrics per slice, network calls and seconds, or why the method failed.

    What failed for the machine's sake (memory, files) raises: another run may do better.
    """
    start = time.perf_counter()
    target = ShardedStore.open(job.reconstruct.target, finished=False)
    shard = target.plan()[index]
    record = _measured(job, job.places[shard.start : shard.stop], report)
    target.write(shard, {}, record=record | {"seconds": time.perf_counter() - start})


def _measured(job: TuneJob, places: tuple[int, ...], report: Report) -> dict[str, Json]:
    inputs, choice = load_inputs(job.reconstruct, places), job.reconstruct.reconstruction
    dataset = open_dataset(job.dataset)
    truth = as_images(dataset.shards.read_places("images", places), dataset.contract)
    try:
        samples, nfe, failures = draw_samples(choice, inputs, job.reconstruct.batch_size, report)
    except Exception as error:
        if is_the_machines(error):
            raise
        return {"error": f"{type(error).__name__}: {error}"}
    for slice_id, reason in failures.items():
        return {"error": f"{slice_id}: {reason}"}
    return {"rows": _rows(samples.mean(0), truth, inputs.slice_ids), "nfe": nfe * choice.n_samples}


def _rows(images: np.ndarray, truth: torch.Tensor, slice_ids: list[str]) -> list[Json]:
    columns = image_columns(torch.from_numpy(images), truth)
    # On an empty slice every choice is right: it counts in no trial, whether its image is exact or not.
    is_empty = truth.flatten(1).amax(1) == truth.flatten(1).amin(1)
    rows = cells({name: columns[name].masked_fill(is_empty, torch.nan) for name in METRICS}, len(images))
    return [{"slice_id": name, **row} for name, row in zip(slice_ids, rows, strict=True)]
