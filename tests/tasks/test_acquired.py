"""Data of a scanner go through reconstruct, evaluate and report as simulated ones do, without a truth."""

from pathlib import Path

import numpy as np
import pytest
import torch

from flows.evaluate import evaluate_flow
from flows.reconstruct import reconstruct_flow
from flows.report import report_flow
from scoreinv.baselines import Direct
from scoreinv.measurement import GaussianNoise, Measured, simulate
from scoreinv.noise import Noise
from scoreinv.operators.mri import CartesianMRI
from scoreinv.operators.pixels import SCANNER
from storage.scores import read_scores
from storage.shards import ShardedStore
from tasks.acquired import keep_acquired
from tasks.recipes import EvaluateRecipe, Reconstruction, ReconstructRecipe, ReportRecipe, TuneRecipe
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tasks.tuning.tune import prepared_tuning
from tasks.workers.stores import Identity, read_measured
from tests.tasks import tiny

MEASUREMENT = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.02))
PEOPLE = [Identity(f"s{i}", f"v{i // 2}", f"p{i // 2}") for i in range(4)]


def acquired(workspace: Path) -> tuple[str, Measured]:
    """Four slices of two people."""
    images = torch.rand(4, 1, tiny.SIZE, tiny.SIZE, generator=torch.Generator().manual_seed(0))
    data = simulate(MEASUREMENT, images, tiny.MRI, Noise(0, [one.slice_id for one in PEOPLE]))
    ref = keep_acquired(str(workspace), data, PEOPLE, measurement=MEASUREMENT, image=tiny.MRI, shard_size=3)
    return ref, data


def test_what_a_scanner_made_is_kept_and_found_again(tmp_path: Path) -> None:
    ref, data = acquired(tmp_path)
    store = ShardedStore.open(str(tmp_path / ref))
    read = read_measured(store, [3, 0])
    assert torch.equal(read.y, data.y[[3, 0]])
    assert torch.equal(read.noise_std, data.noise_std[[3, 0]])
    assert read.fine_factor == SCANNER
    assert acquired(tmp_path)[0] == ref
    with pytest.raises(ValueError, match="4 slices need as many different slice_ids, got 1"):
        keep_acquired(str(tmp_path), data, PEOPLE[:1] * 4, measurement=MEASUREMENT, image=tiny.MRI)


@pytest.mark.usefixtures("prefect_server")
def test_images_of_measured_data_are_judged_without_a_truth(tmp_path: Path) -> None:
    ref, _ = acquired(tmp_path)
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    sampled = Reconstruction(method=tiny.sampler(4), prior=tiny.prior(tmp_path / "prior"), n_samples=3)
    made = [
        reconstruct_flow(ReconstructRecipe(measurements=ref, reconstruction=choice), execution)
        for choice in (Reconstruction(method=Direct()), sampled)
    ]
    scores = evaluate_flow(EvaluateRecipe(reconstructions=tuple(made)), execution)
    rows = read_scores(str(tmp_path / scores))
    assert {row["subject_id"] for row in rows} == {"p0", "p1"}
    assert all(row.get("psnr") is None for row in rows)
    assert all(float(row["data_residual"]) > 0 for row in rows)
    spreads = [row["spread"] for row in rows if row["estimate"] == "mean"]
    assert len(spreads) == 4
    assert np.isfinite(spreads).all()
    page = (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    assert "Nobody knows the true images" in page
    assert "Data residual" in page
    assert "Spread" in page.split("<table")[1].split("</table>")[0]
    assert "Error of" not in page
    assert "PSNR" not in page.split("<table")[1].split("</table>")[0]


def test_tuning_on_measured_data_is_refused(tmp_path: Path) -> None:
    ref, _ = acquired(tmp_path)
    recipe = TuneRecipe(
        measurements=ref, reconstruction=Reconstruction(method=tiny.sampler(4), prior=tiny.prior(tmp_path / "prior"))
    )
    with pytest.raises(ValueError, match="nobody knows their truth"):
        prepared_tuning(recipe, Execution(workspace=str(tmp_path), cluster=Inline()))
