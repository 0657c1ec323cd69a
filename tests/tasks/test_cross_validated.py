"""What views that are left out tell of images, through reconstruct, evaluate and report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from flows.calibrate import calibrate_flow
from flows.evaluate import evaluate_flow
from flows.ingest import ingest_flow
from flows.measure import measure_flow
from flows.reconstruct import reconstruct_flow
from flows.report import report_flow
from scoreinv.calibration import Estimate
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import PoissonNoise, simulate
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from storage.joined import open_store
from storage.scores import read_scores
from tasks.acquired import keep_acquired
from tasks.recipes import (
    CalibrateRecipe,
    EvaluateRecipe,
    IngestRecipe,
    MeasureRecipe,
    Reconstruction,
    ReconstructRecipe,
    ReportRecipe,
)
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tasks.workers.calibrate import EXPECTED, load_calibration
from tasks.workers.stores import Identity

TV: dict[str, Any] = {"method": {"kind": "tv", "weight": 1e-3, "n_iters": 60}}
CT = ImageContract(modality="ct", size=32, pixel_mm=12.0, low=-1000, high=1000)
VIEWS = {"kind": "sparse_view_ct", "n_views": 24}


def measured(execution: Execution, measurement: dict[str, Any], modality: str = "ct") -> str:
    """Measurements of six phantoms of three people."""
    low, high = (-1000, 1000) if modality == "ct" else (0, 1)
    ingest = IngestRecipe.model_validate(
        {
            "source": {"kind": "phantom", "modality": modality, "n_volumes": 3, "n_slices": 2},
            "image": {"modality": modality, "size": 48, "pixel_mm": 8.0, "low": low, "high": high},
            "shard_size": 4,
        }
    )
    recipe = {"dataset": ingest_flow(ingest, execution), "simulation": {"measurement": measurement}}
    return measure_flow(MeasureRecipe.model_validate(recipe), execution)


def made(execution: Execution, measurements: str, **choice: Any) -> str:
    recipe = ReconstructRecipe(measurements=measurements, reconstruction=Reconstruction.model_validate(TV | choice))
    return reconstruct_flow(recipe, execution)


@pytest.mark.usefixtures("prefect_server")
def test_images_are_made_once_and_what_is_expected_of_them_is_told(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    measurements = measured(execution, VIEWS)
    plain = made(execution, measurements)
    checked = made(execution, measurements, is_cross_validated=True)
    calibration = calibrate_flow(CalibrateRecipe(reconstructions=plain), execution)
    both = made(execution, measurements, is_cross_validated=True, calibration=calibration)
    stores = [open_store(str(tmp_path / one)) for one in (plain, checked, both)]
    images = [one.read("sample", 0, one.n) for one in stores]
    assert (images[0] == images[1]).all()
    assert (images[0] == images[2]).all()
    plain_records, checked_records, both_records = (one.records() for one in stores)
    assert both_records == checked_records, "made once"
    for before, after in zip(plain_records, checked_records, strict=True):
        assert before == {name: value for name, value in after.items() if name != EXPECTED}, "made once"
        assert all(value > 0 for value in after[EXPECTED])
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(both,)), execution)
    rows = read_scores(str(tmp_path / scores))
    off = [float(row["psnr"]) - float(row["psnr_expected"]) for row in rows]
    assert min(off) > -3
    assert max(off) < 6
    assert "PSNR by views left out" in (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()


@pytest.mark.usefixtures("prefect_server")
def test_intervals_are_wider_where_views_left_out_expect_more(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    known, fewer = (measured(execution, VIEWS | {"n_views": n}) for n in (24, 8))
    reconstructions = made(execution, known, is_cross_validated=True)
    ref = calibrate_flow(CalibrateRecipe(reconstructions=reconstructions), execution)
    with pytest.raises(UserError, match="set reconstruction.is_cross_validated=true"):
        made(execution, fewer, calibration=ref)
    found = [made(execution, one, is_cross_validated=True, calibration=ref) for one in (known, fewer)]
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(found[1],)), execution)
    rows = read_scores(str(tmp_path / scores))
    assert all(float(row["interval_scale"]) > 1.3 for row in rows)
    page = (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    assert "as wide as views that are left out of it say. Intervals were calibrated at n_views=24" in page
    calibration = load_calibration(str(tmp_path / ref))
    assert np.mean([float(row["coverage_90"]) for row in rows]) > 0.85
    store = open_store(str(tmp_path / found[1]))
    images = torch.from_numpy(store.read("sample", 0, store.n))[:, None]
    unscaled = calibration.model_copy(update={"typical": ()}).half_width(Estimate(images)).numpy()[:, 0]
    assert (store.read("half_width", 0, store.n).mean((1, 2)) > 1.2 * unscaled.mean((1, 2))).all()


@pytest.mark.usefixtures("prefect_server")
def test_of_data_of_a_scanner_a_better_image_is_expected_to_be_better(tmp_path: Path) -> None:
    spec = SparseViewCT(n_views=24, noise=PoissonNoise(n_photons=1e5))
    people = [Identity(f"s{i}", f"v{i}", f"p{i}") for i in range(3)]
    images = torch.zeros(3, 1, CT.size, CT.size)
    images[..., 9:-9, 7:-11] = torch.tensor([0.3, 0.5, 0.7])[:, None, None, None]
    data = simulate(spec, images, CT, Noise(0, [one.slice_id for one in people]))
    ref = keep_acquired(str(tmp_path), data, people, measurement=spec, image=CT, shard_size=2)
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    worse = made(execution, ref, method={"kind": "direct"}, is_cross_validated=True)
    better = made(execution, ref, is_cross_validated=True)
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(worse, better)), execution)
    rows = read_scores(str(tmp_path / scores))
    assert not any("psnr" in row for row in rows)
    of_worse, of_better = (
        np.array([row["psnr_expected"] for row in rows if row["method"] == kind], float) for kind in ("direct", "tv")
    )
    assert (of_better > of_worse + 3).all()


@pytest.mark.usefixtures("prefect_server")
def test_what_has_no_views_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    measurements = measured(execution, {"kind": "cartesian_mri", "acceleration": 2}, "mri")
    with pytest.raises(UserError, match="only CT without metal has views"):
        made(execution, measurements, is_cross_validated=True)
    assert not list((tmp_path / "reconstructions").glob("*/shards*"))


def test_a_network_of_one_measurement_is_refused() -> None:
    with pytest.raises(ValidationError, match="was trained for all views"):
        Reconstruction.model_validate({"method": {"kind": "learned"}, "prior": "priors/x", "is_cross_validated": True})
