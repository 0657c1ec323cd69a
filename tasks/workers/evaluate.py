"""Metrics of one shard of reconstructions."""

import torch
from torch import Tensor

from scoreinv.metrics.image import nmse, psnr, ssim
from scoreinv.spec import Spec
from storage.datasets import DatasetStore
from storage.shards import Shard, ShardedStore
from tasks.recipes import Reconstruction
from tasks.shards import Report


class EvaluateJob(Spec):
    """Whose images are compared with which."""

    dataset: str
    reconstructions: tuple[str, ...]
    target: str


def evaluate_shard(job: EvaluateJob, index: int, report: Report) -> None:
    """Write no array: the rows of a shard are its record."""
    target = ShardedStore.open(job.target, finished=False)
    shard = target.plan()[index]
    dataset = DatasetStore.open(job.dataset)
    truth = torch.from_numpy(dataset.images(shard.start, shard.stop))[:, None]
    rows = [row for uri in job.reconstructions for row in _rows(uri, dataset, truth, shard)]
    target.write(shard, {}, record={"rows": rows})


def _rows(uri: str, dataset: DatasetStore, truth: Tensor, shard: Shard) -> list[dict[str, object]]:
    store = ShardedStore.open(uri)
    reconstruction = Reconstruction.model_validate(store.attrs["recipe"]["reconstruction"])
    record = store.record(shard.index)
    rows = []
    for estimate in ("sample", "mean"):
        if estimate in store.layouts:
            images = torch.from_numpy(store.read(estimate, shard.start, shard.stop))[:, None]
            n = reconstruction.n_samples if estimate == "mean" else 1
            common = {"reconstruction": uri.rsplit("/", 1)[-1], "method": reconstruction.method.kind, "estimate": estimate}
            costs = {"n_samples": n, "nfe": record["nfe"] * n, "seconds": record["seconds_per_slice"]}
            for record_of, scores in zip(dataset.records[shard.start : shard.stop], _scores(images, truth), strict=True):
                identity = {"slice_id": record_of.slice_id, "volume_id": record_of.volume_id, "subject_id": record_of.subject_id}
                rows.append(identity | common | costs | scores)
    return rows


def _scores(images: Tensor, truth: Tensor) -> list[dict[str, float]]:
    columns = {
        "psnr": psnr(images.clamp(0, 1), truth.clamp(0, 1), data_range=1.0),
        "ssim": ssim(images.clamp(0, 1), truth.clamp(0, 1), data_range=1.0),
        "nmse": nmse(images, truth),
    }
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(len(truth))]
