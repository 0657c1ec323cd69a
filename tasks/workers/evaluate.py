"""Metrics of one shard of reconstructions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scoreinv.calibration import Calibration, Estimate
from scoreinv.contract import ImageContract
from scoreinv.metrics.image import (
    class_errors,
    magnitude,
    nmse,
    psnr,
    published_scores,
    scale_error,
    ssim,
    volume_psnr,
)
from scoreinv.metrics.posterior import Ensemble, data_residual, ensemble_coverage, ensemble_spread_skill
from scoreinv.metrics.structures import small_structures, structure_scores, unexplained
from scoreinv.modality import MODALITIES
from scoreinv.operators import AnyMeasurement
from scoreinv.problem import InverseProblem
from scoreinv.spec import Spec
from storage.datasets import DatasetStore
from storage.shards import Shard
from tasks.recipes import Reconstruction
from tasks.running.shards import Report
from tasks.workers.calibrate import EXPECTED, estimate_of, load_calibration
from tasks.workers.priors import image_contract
from tasks.workers.stores import Identity, as_images, open_dataset, open_store, read_identities, read_measured

VERSION = 8
"""Of the set of metrics: part of the address of scores, so that new metrics are taken of old images too."""

FAILURE = "failure"
"""The column that says why a method has no image of a slice."""

Columns = dict[str, Tensor]
"""Metric -> one value per slice."""


class Candidate(Spec):
    """A reconstruction, and the data it was made from."""

    uri: str
    measurements: str
    measurement: AnyMeasurement
    calibration: str = ""
    """Of its intervals, if it has some."""


class EvaluateJob(Spec):
    """Whose images are compared with which; without a data set there is no truth to compare with."""

    dataset: str
    candidates: tuple[Candidate, ...]
    target: str


class Subjects(NamedTuple):
    """The slices of a shard: who they are, what values mean, and their true images, if anybody has them."""

    identities: list[Identity]
    contract: ImageContract
    truth: Tensor | None = None
    ranges: Tensor | None = None
    """Lowest and highest value of each slice's volume, on the scale of the images, (n, 2)."""


def evaluate_shard(job: EvaluateJob, index: int, report: Report) -> None:
    """Write no array: the rows of a shard are its record."""
    target = open_store(job.target, finished=False)
    shard = target.plan()[index]
    subjects = _subjects(job, shard)
    rows = [row for candidate in job.candidates for row in _rows(candidate, subjects, shard)]
    target.write(shard, {}, record={"rows": rows})


def _subjects(job: EvaluateJob, shard: Shard) -> Subjects:
    if not job.dataset:
        measurements = open_store(job.candidates[0].measurements)
        identities = read_identities(measurements, range(shard.start, shard.stop))
        return Subjects(identities, image_contract(measurements.attrs))
    dataset = open_dataset(job.dataset)
    records = dataset.listing.slices[shard.start : shard.stop]
    identities = [Identity(one.slice_id, one.volume_id, one.subject_id) for one in records]
    truth = as_images(dataset.images(shard.start, shard.stop), dataset.contract)
    return Subjects(identities, dataset.contract, truth, _ranges(dataset, shard))


def _ranges(dataset: DatasetStore, shard: Shard) -> Tensor:
    """No image shows what lies below its own scale, and in CT files there is padding far below air."""
    contract = dataset.contract
    ranges = torch.from_numpy(dataset.volume_ranges(shard))
    return ((ranges - contract.low) / (contract.high - contract.low)).clamp_min(0)


def _rows(candidate: Candidate, subjects: Subjects, shard: Shard) -> list[dict[str, object]]:
    store = open_store(candidate.uri)
    choice = Reconstruction.model_validate(store.attrs["recipe"]["reconstruction"])
    measurements = open_store(candidate.measurements)
    data = read_measured(measurements, range(shard.start, shard.stop))
    problem = InverseProblem.of(candidate.measurement, data, subjects.contract)
    scored, record = candidate.measurement.scored(data.context), store.record(shard.index)
    truth = None if subjects.truth is None else only(subjects.truth, scored)
    rows: list[dict[str, object]] = []
    for estimate in ("sample", "mean"):
        if estimate not in store.layouts:
            continue
        n = choice.n_samples if estimate == "mean" else 1
        about = {
            "reconstruction": store.origin(shard),
            "measurements": measurements.origin(shard),
            "method": choice.method.kind,
            "prior": choice.prior,
            "seed": choice.seed,
            "estimate": estimate,
            "n_samples": n,
            "nfe": record["nfe"] * n,
            "seconds": record["seconds_per_slice"] * n / choice.n_samples,
        }
        images = as_images(store.read(estimate, shard.start, shard.stop), subjects.contract)
        is_missing = ~images.isfinite().flatten(1).all(1)
        images = images.masked_fill(is_missing[:, None, None, None], 0.0)
        shown = only(images, scored)
        columns = {} if truth is None else image_columns(shown, truth)
        columns |= {} if truth is None else tissue_columns(shown, truth, subjects.contract)
        if truth is not None and subjects.ranges is not None:
            lowest, highest = subjects.ranges.unbind(1)
            columns |= {"psnr_volume": volume_psnr(shown, truth, lowest=lowest, highest=highest)}
        if bool((problem.noise_std > 0).all()):
            columns |= {"data_residual": data_residual(images, problem)}
        if small := small_structures(subjects.contract):
            columns |= {"unexplained": unexplained(images, problem, small).float()}
        is_result = estimate == ("mean" if choice.n_samples > 1 else "sample")
        if EXPECTED in record and is_result:
            columns |= {"psnr_expected": expected_psnr(record[EXPECTED])}
        if estimate == "mean":
            std = as_images(store.read("std", shard.start, shard.stop), subjects.contract)
            columns |= spread_columns(Ensemble(shown, only(std, scored), n), truth, subjects.contract)
        if candidate.calibration and is_result:
            deviation = as_images(store.read("std", shard.start, shard.stop), subjects.contract) if n > 1 else None
            calibration = load_calibration(candidate.calibration)
            seen = estimate_of(images, deviation, problem, subjects.contract, record.get(EXPECTED))
            columns |= {"interval_scale": calibration.scale(seen)} if calibration.typical else {}
            columns |= {} if truth is None else interval_columns(calibration, seen, truth, scored)
        columns = {name: values.masked_fill(is_missing, torch.nan) for name, values in columns.items()}
        pairs = zip(subjects.identities, cells(columns, len(images)), strict=True)
        rows += [{**one._asdict(), **about, **_failure(one, record), **scores} for one, scores in pairs]
    return rows


def _failure(one: Identity, record: Mapping[str, Any]) -> dict[str, object]:
    """Why a method has no image of a slice, a column that only tables with failures have."""
    reason = record.get("failures", {}).get(one.slice_id)
    return {FAILURE: reason} if reason else {}


def only(images: Tensor, scored: Tensor | None) -> Tensor:
    """Images (batch, n_channels, height, width) that are 0 where their values do not count, as the truth is there."""
    return images if scored is None else images * scored


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


def tissue_columns(images: Tensor, truth: Tensor, contract: ImageContract) -> Columns:
    """Mean absolute error of each class of values of the modality, in its unit, and what became of small structures.

    Values are clipped to those of interest, as for ``image_columns``.
    """
    low, span = contract.low, contract.high - contract.low
    seen, wanted = magnitude(images).clamp(0, 1), magnitude(truth).clamp(0, 1)
    classes = {
        one.key: ((one.low - low) / span, (one.high - low) / span) for one in MODALITIES[contract.modality].classes
    }
    errors = class_errors(seen, wanted, classes=classes)
    columns = {f"mae_{key}": span * values for key, values in errors.items()}
    if small := small_structures(contract):
        columns |= {f"small_{name}": values for name, values in structure_scores(seen, wanted, small).items()}
    return columns


def expected_psnr(mse: Sequence[float | None]) -> Tensor:
    """The PSNR of images whose mean square error is expected to be so, values of interest in [0, 1].

    NaN where nothing is expected, or no more than noise hides.
    """
    known = torch.tensor([math.nan if one is None else one for one in mse])
    return -10 * torch.where(known > 0, known, torch.nan).log10()


def spread_columns(ensemble: Ensemble, truth: Tensor | None, contract: ImageContract) -> Columns:
    """How far samples lie apart within the body, and, where the truth is known, how honest that is.

    The body is what is not air, in the truth or else in the samples' mean: of air there is much, and it is easy.
    """
    low, high = contract.low, contract.high
    seen = ensemble.mean if truth is None else truth
    body = magnitude(seen) > (MODALITIES[contract.modality].foreground - low) / (high - low)
    n_pixels = body.flatten(1).sum(1)
    columns = {"spread": ((magnitude(ensemble.std) * body).flatten(1).sum(1) / n_pixels)}
    if truth is not None:
        columns |= {
            "coverage_90": ensemble_coverage(ensemble, truth, level=0.9, mask=body),
            "spread_skill": ensemble_spread_skill(ensemble, truth, mask=body),
        }
    return columns


def interval_columns(calibration: Calibration, estimate: Estimate, truth: Tensor, scored: Tensor | None) -> Columns:
    """How often calibrated intervals hold, within all but the lowest class of values, and how wide those of 90 % are.

    In place of what a spread would promise.
    """
    values = magnitude(estimate.images)
    body = values >= calibration.bounds[0]
    body = body if scored is None else body & scored.bool()
    n_pixels = body.flatten(1).sum(1).clamp_min(1)
    errors = (values - magnitude(truth)).abs()
    widths = {level: calibration.half_width(estimate, level=level) for level in calibration.levels}
    inside = {level: ((errors <= one) & body).flatten(1).sum(1) / n_pixels for level, one in widths.items()}
    columns = {f"coverage_{100 * level:.0f}": share for level, share in inside.items()}
    return columns | {"half_width": (widths[0.9] * body).flatten(1).sum(1) / n_pixels}


def cells(columns: Columns, n: int) -> list[dict[str, object]]:
    """One row of metrics for each of n slices, as JSON can hold them."""
    lists = {name: values.tolist() for name, values in columns.items()}
    return [{name: _json(values[i]) for name, values in lists.items()} for i in range(n)]


def _json(value: float) -> float | str:
    # An empty slice has no NMSE, an exact one an infinite PSNR; JSON has neither, storage.scores reads these words.
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
