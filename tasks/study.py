"""What a report says of one study: the table of its methods, and pictures of some of its slices."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import yaml

from scoreinv.contract import ImageContract
from scoreinv.operators import AnyMeasurement
from storage.datasets import DatasetStore
from storage.scores import read_scores
from storage.shards import ShardedStore
from storage.uri import join
from tasks.recipes import MeasureRecipe, Reconstruction
from tasks.rendering import MethodRow, Panel, ReportSection
from tasks.workspace import locate

METRICS = ("psnr", "ssim", "nmse")

Row = Mapping[str, Any]


class Result(NamedTuple):
    """One reconstruction of the study, and what it was made from."""

    store: ShardedStore
    reconstruction: Reconstruction
    measurement: AnyMeasurement
    size: int

    @property
    def name(self) -> str:
        """What people call the method; the naive one goes by its modality's name."""
        method = self.reconstruction.method
        if method.kind == "direct":
            return self.measurement.operator(self.size).direct_name
        return f"{method.label} ({method.n_calls} calls)"


def section_of(workspace: str, scores_uri: str, n_pictures: int) -> ReportSection:
    """Heading, table, pictures and recipes of one study."""
    scores = ShardedStore.open(scores_uri)
    dataset = DatasetStore.open(locate(workspace, scores.attrs["dataset"], "datasets"))
    uris = [locate(workspace, ref, "reconstructions") for ref in scores.attrs["recipe"]["reconstructions"]]
    results = [_result(workspace, uri) for uri in uris]
    rows = read_scores(scores_uri)
    naive = next((r for r in results if not r.reconstruction.method.needs_denoiser), results[0])
    best = next((r for r in reversed(results) if r.reconstruction.method.needs_denoiser), results[-1])
    places = np.unique(np.linspace(0, len(dataset) - 1, n_pictures + 2).round().astype(int)[1:-1])
    return ReportSection(
        heading=_heading(naive.measurement, dataset),
        intro=_intro(naive.measurement, dataset),
        rows=[row for result in results for row in _method_rows(result, rows)],
        panels=[_panel(int(place), dataset, naive, best, rows) for place in places],
        recipe_yaml=_recipe_yaml(dataset, results),
        baseline=naive.name,
    )


def _result(workspace: str, uri: str) -> Result:
    store = ShardedStore.open(uri)
    recipe = store.attrs["recipe"]
    measurements = ShardedStore.open(locate(workspace, recipe["measurements"], "measurements"))
    simulation = MeasureRecipe.model_validate(measurements.attrs["recipe"]).simulation
    size = int(store.attrs["image"]["size"])
    return Result(store, Reconstruction.model_validate(recipe["reconstruction"]), simulation.measurement, size)


def _heading(measurement: AnyMeasurement, dataset: DatasetStore) -> str:
    n, size = len(dataset), dataset.contract.size
    return f"{measurement.title()}, {n} slices of {size} x {size} pixels"


def _intro(measurement: AnyMeasurement, dataset: DatasetStore) -> list[str]:
    listing, contract = dataset.listing, dataset.contract
    left_out = f" {len(listing.rejected)} files were left out." if listing.rejected else ""
    return [
        f"{len(listing.subjects())} subjects, {len(listing.volumes)} volumes, pixels of {contract.pixel_mm:g} mm.{left_out}",
        f"Measurement noise: {measurement.noise.kind}. PSNR and SSIM on values in [0, 1], data range 1.",
    ]


def _method_rows(result: Result, rows: Sequence[Row]) -> list[MethodRow]:
    mine = [row for row in rows if row["reconstruction"] == result.store.uri.rsplit("/", 1)[-1]]
    return [
        _method_row(_row_name(result, estimate), [row for row in mine if row["estimate"] == estimate])
        for estimate in dict.fromkeys(str(row["estimate"]) for row in mine)
    ]


def _row_name(result: Result, estimate: str) -> str:
    n = result.reconstruction.n_samples
    if not result.reconstruction.method.is_stochastic:
        return result.name
    return f"{result.name}, mean of {n} samples" if estimate == "mean" else f"{result.name}, one sample"


def _method_row(name: str, rows: Sequence[Row]) -> MethodRow:
    metrics = {m: _mean_and_deviation([float(row[m]) for row in rows]) for m in METRICS}
    seconds = statistics.fmean(float(row["seconds"]) for row in rows)
    return MethodRow(method=name, n=len(rows), nfe=int(rows[0]["nfe"]), seconds_per_slice=seconds, metrics=metrics)


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _panel(place: int, dataset: DatasetStore, naive: Result, best: Result, rows: Sequence[Row]) -> Panel:
    record, contract = dataset.records[place], dataset.contract
    n = best.reconstruction.n_samples
    estimate = "mean" if n > 1 else "sample"
    return Panel(
        title=f"{record.subject_id}, slice at {record.position_mm:.0f} mm",
        truth=_in_units(dataset.images(place, place + 1)[0], contract),
        naive=_in_units(naive.store.read("sample", place, place + 1)[0], contract),
        result=_in_units(best.store.read(estimate, place, place + 1)[0], contract),
        std=_spread(best.store, place, contract) if n > 1 else None,
        naive_name=naive.name,
        result_name=_row_name(best, estimate),
        scores={_row_name_of(row, (naive, best)): _scores(row) for row in rows if _is_shown(row, record.slice_id, naive, best)},
        value_label="HU" if contract.modality == "ct" else "relative signal",
        low=-1000.0 if contract.modality == "ct" else 0.0,
        high=400.0 if contract.modality == "ct" else 1.0,
        pixel_mm=contract.pixel_mm,
        n_samples=n,
    )


def _is_shown(row: Row, slice_id: str, naive: Result, best: Result) -> bool:
    digests = {result.store.uri.rsplit("/", 1)[-1] for result in (naive, best)}
    return row["slice_id"] == slice_id and row["reconstruction"] in digests


def _row_name_of(row: Row, results: Sequence[Result]) -> str:
    result = next(r for r in results if r.store.uri.rsplit("/", 1)[-1] == row["reconstruction"])
    return _row_name(result, str(row["estimate"]))


def _scores(row: Row) -> dict[str, float]:
    return {metric: float(row[metric]) for metric in METRICS}


def _in_units(image: np.ndarray, contract: ImageContract) -> np.ndarray:
    return contract.low + image.clip(0, 1) * (contract.high - contract.low)


def _spread(store: ShardedStore, place: int, contract: ImageContract) -> np.ndarray:
    spread: np.ndarray = store.read("std", place, place + 1)[0] * (contract.high - contract.low)
    return spread


def _recipe_yaml(dataset: DatasetStore, results: Sequence[Result]) -> str:
    content = {
        "dataset": {"uri": join(dataset.uri), "recipe": dataset.shards.attrs["recipe"]},
        "measurement": results[0].measurement.model_dump(mode="json"),
        "reconstructions": [result.reconstruction.model_dump(mode="json") for result in results],
    }
    return yaml.safe_dump(content, sort_keys=False)
