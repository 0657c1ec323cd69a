"""Metrics of one shard of reconstructions."""

import math
from typing import NamedTuple

from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.metrics.image import magnitude, nmse, psnr, published_scores, scale_error, ssim
from scoreinv.metrics.posterior import Ensemble, data_residual, ensemble_coverage, ensemble_spread_skill
from scoreinv.modality import MODALITIES
from scoreinv.operators import AnyMeasurement
from scoreinv.problem import InverseProblem
from scoreinv.spec import Spec
from storage.datasets import SliceRecord
from storage.shards import Shard, ShardedStore
from tasks.recipes import Reconstruction
from tasks.shards import Report
from tasks.workers.stores import as_images, open_dataset, read_measured

VERSION = 3
"""Of the set of metrics: part of the address of scores, so that new metrics are taken of old images too."""

Columns = dict[str, Tensor]
"""Metric -> one value per slice."""


class Candidate(Spec):
    """A reconstruction, and the data it was made from."""

    uri: str
    measurements: str
    measurement: AnyMeasurement


class EvaluateJob(Spec):
    """Whose images are compared with which."""

    dataset: str
    candidates: tuple[Candidate, ...]
    target: str


class Truth(NamedTuple):
    """The slices of a shard: who they are, their images (batch, n_channels, height, width), and what those mean."""

    records: tuple[SliceRecord, ...]
    images: Tensor
    contract: ImageContract

    @property
    def body(self) -> Tensor:
        """Bool, the pixels that are not air: there is much of it, and it is easy."""
        low, high = self.contract.low, self.contract.high
        return magnitude(self.images) > (MODALITIES[self.contract.modality].foreground - low) / (high - low)


def evaluate_shard(job: EvaluateJob, index: int, report: Report) -> None:
    """Write no array: the rows of a shard are its record."""
    target = ShardedStore.open(job.target, finished=False)
    shard = target.plan()[index]
    dataset = open_dataset(job.dataset)
    images = as_images(dataset.images(shard.start, shard.stop), dataset.contract)
    truth = Truth(dataset.listing.slices[shard.start : shard.stop], images, dataset.contract)
    rows = [row for candidate in job.candidates for row in _rows(candidate, truth, shard)]
    target.write(shard, {}, record={"rows": rows})


def _rows(candidate: Candidate, truth: Truth, shard: Shard) -> list[dict[str, object]]:
    store = ShardedStore.open(candidate.uri)
    choice = Reconstruction.model_validate(store.attrs["recipe"]["reconstruction"])
    record, problem = store.record(shard.index), _problem(candidate, shard, truth.contract)
    rows: list[dict[str, object]] = []
    for estimate in ("sample", "mean"):
        if estimate not in store.layouts:
            continue
        n = choice.n_samples if estimate == "mean" else 1
        about = {
            "reconstruction": candidate.uri.rsplit("/", 1)[-1],
            "measurements": candidate.measurements.rsplit("/", 1)[-1],
            "method": choice.method.kind,
            "prior": choice.prior,
            "seed": choice.seed,
            "estimate": estimate,
            "n_samples": n,
            "nfe": record["nfe"] * n,
            "seconds": record["seconds_per_slice"] * n / choice.n_samples,
        }
        images = as_images(store.read(estimate, shard.start, shard.stop), truth.contract)
        columns = image_columns(images, truth.images) | _residual_column(images, problem)
        if estimate == "mean":
            std = as_images(store.read("std", shard.start, shard.stop), truth.contract)
            columns |= spread_columns(Ensemble(images, std, n), truth)
        rows += [_identity(one) | about | scores for one, scores in zip(truth.records, cells(columns), strict=True)]
    return rows


def image_columns(images: Tensor, truth: Tensor) -> Columns:
    """How near images are to the truth, both (batch, n_channels, height, width) with values of interest in [0, 1]."""
    images, truth = magnitude(images), magnitude(truth)
    seen, wanted = images.clamp(0, 1), truth.clamp(0, 1)
    columns = {
        "psnr": psnr(seen, wanted, data_range=1.0),
        "ssim": ssim(seen, wanted, data_range=1.0),
        "nmse": nmse(images, truth),
        "scale_error": scale_error(images, truth),
    }
    for variant in ("circle", "circle_peaks"):
        scores = published_scores(images, truth, data_range=1.0, variant=variant)
        columns |= {f"{name}_{variant}": values for name, values in scores.items()}
    return columns


def spread_columns(ensemble: Ensemble, truth: Truth) -> Columns:
    """How honest the deviation of the samples is, within the body."""
    return {
        "coverage_90": ensemble_coverage(ensemble, truth.images, level=0.9, mask=truth.body),
        "spread_skill": ensemble_spread_skill(ensemble, truth.images, mask=truth.body),
    }


def _residual_column(images: Tensor, problem: InverseProblem) -> Columns:
    return {"data_residual": data_residual(images, problem)} if bool((problem.noise_std > 0).all()) else {}


def _problem(candidate: Candidate, shard: Shard, image: ImageContract) -> InverseProblem:
    data = read_measured(ShardedStore.open(candidate.measurements), range(shard.start, shard.stop))
    return InverseProblem.of(candidate.measurement, data, image)


def _identity(record: SliceRecord) -> dict[str, object]:
    return {"slice_id": record.slice_id, "volume_id": record.volume_id, "subject_id": record.subject_id}


def cells(columns: Columns) -> list[dict[str, object]]:
    """One row of metrics per slice, as JSON can hold them."""
    lists = {name: values.tolist() for name, values in columns.items()}
    n = len(next(iter(lists.values())))
    return [{name: _json(values[i]) for name, values in lists.items()} for i in range(n)]


def _json(value: float) -> float | str:
    # An empty slice has no NMSE, an exact one an infinite PSNR; JSON has neither, storage.scores reads these words.
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
