"""Simulate the measurement of one shard of images."""

import torch

from scoreinv.measurement import simulate
from scoreinv.noise import Noise
from scoreinv.spec import Spec
from storage.shards import ShardedStore
from tasks.recipes import Simulation
from tasks.shards import Report
from tasks.workers.stores import open_dataset


class MeasureJob(Spec):
    """Where the images are, where the data go, and how they are made."""

    dataset: str
    target: str
    simulation: Simulation


def measure_shard(job: MeasureJob, index: int, report: Report) -> None:
    """Write the data of one shard, and its noise level as the record."""
    dataset, target = open_dataset(job.dataset), ShardedStore.open(job.target, finished=False)
    shard = target.plan()[index]
    read = dataset.fine_images if job.simulation.uses_fine_images else dataset.images
    images = torch.from_numpy(read(shard.start, shard.stop))[:, None]
    names = target.attrs["slice_ids"][shard.start : shard.stop]
    data = simulate(job.simulation.measurement, images, dataset.contract, Noise(job.simulation.seed, names))
    target.write(shard, {"y": data.y.numpy()}, record={"noise_std": data.noise_std})
