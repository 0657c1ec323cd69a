"""Simulate the measurement of one shard of images."""

import torch

from scoreinv.contract import ImageContract
from scoreinv.measurement import simulate
from scoreinv.noise import Noise
from scoreinv.spec import Spec
from storage.datasets import DatasetStore
from storage.shards import ShardedStore
from tasks.recipes import Simulation
from tasks.shards import Report


class MeasureJob(Spec):
    """Where the images are, where the data go, and how they are made."""

    dataset: str
    target: str
    simulation: Simulation


def measure_shard(job: MeasureJob, index: int, report: Report) -> None:
    """Write the data of one shard, and its noise level as the record."""
    dataset, target = DatasetStore.open(job.dataset), ShardedStore.open(job.target, finished=False)
    shard = target.plan()[index]
    read = dataset.fine_images if job.simulation.uses_fine_images else dataset.images
    images = torch.from_numpy(read(shard.start, shard.stop))[:, None]
    names = [record.slice_id for record in dataset.records[shard.start : shard.stop]]
    contract: ImageContract = dataset.contract
    data = simulate(job.simulation.measurement, images, contract, Noise(job.simulation.seed, names))
    target.write(shard, {"y": data.y.numpy()}, record={"noise_std": data.noise_std})
