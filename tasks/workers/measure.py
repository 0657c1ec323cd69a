"""Simulate the measurement of one shard of images."""

import numpy as np

from scoreinv.measurement import Measured, simulate
from scoreinv.noise import Noise
from scoreinv.spec import Spec
from tasks.recipes import Simulation
from tasks.running.shards import Report
from tasks.workers.stores import CONTEXT, as_images, open_dataset, open_store


class MeasureJob(Spec):
    """Where the images are, where the data go, and how they are made."""

    dataset: str
    target: str
    simulation: Simulation


VERSION = 2
"""Of how images are measured, whatever is measured: part of the address of measurements, raised when results change."""


def measure_shard(job: MeasureJob, index: int, report: Report) -> None:
    """Write the data of one shard, the noise of each slice's data, and in the record what the slices are called."""
    dataset, target = open_dataset(job.dataset), open_store(job.target, finished=False)
    shard = target.plan()[index]
    read = dataset.fine_images if job.simulation.uses_fine_images else dataset.images
    images = as_images(read(shard.start, shard.stop), dataset.contract)
    names = [record.slice_id for record in dataset.listing.slices[shard.start : shard.stop]]
    noise = Noise(job.simulation.seed, names, purpose="measurement")
    data = simulate(job.simulation.measurement, images, dataset.contract, noise)
    target.write(shard, arrays_of(data), record={"slice_ids": names})


def arrays_of(data: Measured) -> dict[str, np.ndarray]:
    """What a store of measurements holds."""
    arrays = {"y": data.y, "noise_std": data.noise_std}
    arrays |= {CONTEXT + name: value for name, value in data.context.items()}
    return {name: value.numpy() for name, value in arrays.items()}
