"""Scores of a shard: against values known beforehand, and against the samples they stand for."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoreinv.baselines import Direct
from scoreinv.contract import ImageContract
from scoreinv.metrics.posterior import Ensemble
from scoreinv.operators.mri import CartesianMRI
from storage.datasets import DatasetStore
from storage.scores import read_scores, write_scores
from storage.shards import ShardedStore
from tasks.recipes import Reconstruction
from tasks.rendering.tables import METRICS
from tasks.running.cluster import Inline
from tasks.running.shards import Execution, map_shards
from tasks.workers.evaluate import Candidate, EvaluateJob, evaluate_shard, image_columns, spread_columns, tissue_columns
from tests.tasks import tiny

N_SLICES = 4
SAMPLED = ("coverage_90", "spread_skill")
OF_OTHERS = {name for name in METRICS if name.startswith("mae_")} | {
    *("coverage_80", "coverage_95", "half_width", "psnr_expected", "interval_scale"),
}
"""Of tissues that this modality does not tell apart, and of calibrated intervals."""


def written(store: ShardedStore, images: dict[str, np.ndarray]) -> ShardedStore:
    """The store with these images in place of a method's."""
    for shard in store.pending():
        arrays = {name: values[shard.start : shard.stop] for name, values in images.items()}
        store.write(shard, arrays, record={"nfe": 7, "seconds": 8.0, "seconds_per_slice": 8.0})
    store.finish()
    return store


def rows_of(folder: Path, dataset: DatasetStore, data: ShardedStore, store: ShardedStore) -> list[dict[str, Any]]:
    """Evaluated, written as a table and read again."""
    target = ShardedStore.create(str(folder / "scores"), n=dataset.shards.n, shard_size=1, arrays={}, attrs={})
    measurement = CartesianMRI.model_validate(data.attrs["recipe"]["simulation"]["measurement"])
    candidate = Candidate(uri=store.uri, measurements=data.uri, measurement=measurement)
    job = EvaluateJob(dataset=dataset.uri, candidates=(candidate,), target=target.uri)
    list(map_shards(evaluate_shard, job, target, Execution(cluster=Inline())))
    write_scores(target.uri, [row for record in target.records() for row in record["rows"]])
    return read_scores(target.uri)


def test_the_truth_itself_explains_its_data_and_has_no_error(tmp_path: Path) -> None:
    dataset = tiny.dataset(tmp_path, n=N_SLICES)
    data = tiny.measurements(tmp_path, dataset)
    _, store = tiny.reconstruction(data, tmp_path / "r", Reconstruction(method=Direct()))
    truth = dataset.images(0, N_SLICES)
    rows = rows_of(tmp_path, dataset, data, written(store, {"sample": truth}))
    n_measured = 2 * np.count_nonzero(data.read("y", 0, 1))
    assert [row["slice_id"] for row in rows] == [record.slice_id for record in dataset.records]
    for row in rows:
        assert row["psnr"] == row["psnr_volume"] == math.inf
        assert row["ssim"] == pytest.approx(1)
        assert row["nmse"] == row["scale_error"] == 0
        assert row["data_residual"] == pytest.approx(1, abs=5 * math.sqrt(2 / n_measured))
        assert (row["nfe"], row["seconds"], row["estimate"]) == (7, 8.0, "sample")
        assert not set(SAMPLED) & set(row)


def test_a_mean_is_scored_with_its_spread_and_costs_all_samples(tmp_path: Path) -> None:
    dataset = tiny.dataset(tmp_path, n=N_SLICES)
    data = tiny.measurements(tmp_path, dataset)
    choice = Reconstruction(method=tiny.sampler(2), prior=tiny.prior(tmp_path / "prior"), n_samples=4)
    _, store = tiny.reconstruction(data, tmp_path / "r", choice)
    truth = dataset.images(0, N_SLICES)
    std = np.full_like(truth, 0.1)
    written(store, {"sample": truth + np.float32(0.05), "mean": truth + np.float32(0.05), "std": std})
    rows = rows_of(tmp_path, dataset, data, store)
    means = [row for row in rows if row["estimate"] == "mean"]
    samples = [row for row in rows if row["estimate"] == "sample"]
    assert len(means) == len(samples) == N_SLICES
    for row in means:
        assert row["coverage_90"] == 1
        assert row["spread_skill"] == pytest.approx(2 * math.sqrt(5 / 4), rel=1e-4)
        assert (row["nfe"], row["seconds"], row["n_samples"]) == (28, 8.0, 4)
        assert set(METRICS) - OF_OTHERS <= set(row)
    for row in samples:
        assert (row["nfe"], row["seconds"], row["n_samples"]) == (7, 2.0, 1)
        assert all(row[name] is None for name in SAMPLED)


def test_the_papers_scale_is_the_range_of_each_volume(tmp_path: Path) -> None:
    dataset = tiny.dataset(tmp_path, n=N_SLICES)
    data = tiny.measurements(tmp_path, dataset)
    _, store = tiny.reconstruction(data, tmp_path / "r", Reconstruction(method=Direct()))
    truth = dataset.images(0, N_SLICES)
    error = np.where(truth > 0.5, np.float32(-0.1), np.float32(0.1))
    rows = rows_of(tmp_path, dataset, data, written(store, {"sample": truth + error}))
    ranges = np.concatenate([dataset.volume_ranges(shard) for shard in dataset.shards.plan()])
    for row, (lowest, highest) in zip(rows, ranges, strict=True):
        assert row["psnr"] == pytest.approx(20, abs=1e-3)
        assert row["psnr_volume"] == pytest.approx(20 + 20 * math.log10(highest - max(lowest, 0)), abs=1e-3)
    assert len({round(float(row["psnr_volume"]), 3) for row in rows}) == 2, "one scale for each of two volumes"


def test_spread_is_judged_within_the_body() -> None:
    """Air that is known exactly would make a deviation of a tenth of the error look right."""
    generator = torch.Generator().manual_seed(0)
    body = torch.zeros(1, 1, 64, 64)
    body[..., 16:48, 16:48] = 0.5
    samples = body + 0.1 * (body > 0) * torch.randn(8, 1, 1, 64, 64, generator=generator)
    truth = body + 0.1 * (body > 0) * torch.randn(body.shape, generator=generator)
    ensemble = Ensemble(samples.mean(0), samples.std(0), 8)
    columns = spread_columns(ensemble, truth, tiny.MRI)
    assert float(columns["coverage_90"]) == pytest.approx(0.9, abs=0.04)
    assert float(columns["spread_skill"]) == pytest.approx(1, abs=0.08)


def test_errors_of_tissue_are_in_hounsfield_units_and_of_the_truth_s_classes() -> None:
    contract = ImageContract(modality="ct", size=64, pixel_mm=2.0, low=-1000, high=1000)
    truth = torch.full((1, 1, 64, 64), -1000.0)
    truth[..., 8:56, 8:56], truth[..., 16:48, 16:32], truth[..., 20:30, 40:50] = 40, -800, 700
    error = torch.where(truth > 300, -60.0, torch.where(truth > -150, 25.0, 40.0))
    columns = tissue_columns(*((x + 1000) / 2000 for x in (truth + error, truth)), contract)
    found = {name: float(values) for name, values in columns.items() if name.startswith("mae_")}
    assert found == pytest.approx({"mae_air": 40, "mae_lung": 40, "mae_soft": 25, "mae_bone": 60}, rel=1e-4)
    assert set(columns) - set(found) == {"small_contrast", "small_contrast_low", "small_invented"}
    magnitudes = tissue_columns(torch.rand(1, 2, 64, 64), torch.rand(1, 2, 64, 64), tiny.MRI)
    assert set(magnitudes) == {"small_contrast", "small_contrast_low", "small_invented"}


def test_a_lesion_that_is_erased_is_missed_at_any_pixel_size() -> None:
    for pixel_mm, size in ((1.0, 200), (2.0, 100)):
        contract = ImageContract(modality="ct", size=size, pixel_mm=pixel_mm, low=-1000, high=1000)
        rows, columns = torch.meshgrid(*[torch.arange(size) * pixel_mm] * 2, indexing="ij")
        truth = torch.full((size, size), 40.0)
        for i in range(16):
            truth[(rows - 40 - 40 * (i // 4)).square() + (columns - 40 - 40 * (i % 4)).square() <= 25] += 80
        image = truth.clone()
        image[: size // 2, : size // 2] = 40
        scores = tissue_columns(*((x[None, None] + 1000) / 2000 for x in (image, truth)), contract)
        assert float(scores["small_contrast"]) == pytest.approx(1, abs=0.02)
        assert float(scores["small_contrast_low"]) == pytest.approx(0, abs=0.02)


def test_an_empty_slice_is_scored_as_far_as_it_can_be(tmp_path: Path) -> None:
    dataset = tiny.dataset(tmp_path, n=N_SLICES)
    data = tiny.measurements(tmp_path, dataset)
    truth = torch.zeros(1, 1, tiny.SIZE, tiny.SIZE)
    columns = image_columns(truth + 0.1, truth)
    assert float(columns["psnr"]) == pytest.approx(20, abs=1e-4)
    assert float(columns["nmse"]) == math.inf
    _, store = tiny.reconstruction(data, tmp_path / "r", Reconstruction(method=Direct()))
    rows = rows_of(tmp_path, dataset, data, written(store, {"sample": 0 * dataset.images(0, N_SLICES)}))
    assert all(row["nmse"] == pytest.approx(1) for row in rows)
