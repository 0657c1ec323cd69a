"""The calibrate stage: half widths from people's errors, beside the images of a reconstruction that names them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flows.calibrate import calibrate_flow
from flows.evaluate import evaluate_flow
from flows.ingest import ingest_flow
from flows.measure import measure_flow
from flows.reconstruct import reconstruct_flow
from flows.report import report_flow
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.operators.ct import SparseViewCT
from scoreinv.problem import InverseProblem
from storage.errors import StoreNotFound
from storage.joined import open_store
from storage.scores import read_scores
from tasks.finished import finished
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
from tasks.workers.calibrate import estimate_of, load_calibration
from tests.tasks import tiny

N_PEOPLE = 4
TV: dict[str, Any] = {"method": {"kind": "tv", "weight": 1e-3, "n_iters": 10}}


def measured(execution: Execution, seed: int, acceleration: float = 2) -> str:
    """Measurements of phantoms, as many people as there are volumes."""
    ingest = IngestRecipe.model_validate(
        {
            "source": {"kind": "phantom", "modality": "mri", "n_volumes": N_PEOPLE, "n_slices": 3, "seed": seed},
            "image": {"modality": "mri", "size": 32, "pixel_mm": 8.0, "low": 0, "high": 1},
            "shard_size": 4,
        }
    )
    measurement = {
        "kind": "cartesian_mri",
        "acceleration": acceleration,
        "noise": {"kind": "gaussian", "noise_std": 0.02},
    }
    recipe = MeasureRecipe.model_validate(
        {"dataset": ingest_flow(ingest, execution), "simulation": {"measurement": measurement}}
    )
    return measure_flow(recipe, execution)


def made(execution: Execution, measurements: str, **choice: Any) -> str:
    recipe = ReconstructRecipe(measurements=measurements, reconstruction=Reconstruction.model_validate(choice))
    return reconstruct_flow(recipe, execution)


@pytest.mark.usefixtures("prefect_server")
def test_intervals_of_one_image_hold_on_other_people(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    known, other = measured(execution, 0), measured(execution, 1)
    recipe = CalibrateRecipe(reconstructions=made(execution, known, **TV))
    assert not finished("calibrate", recipe, str(tmp_path))
    ref = calibrate_flow(recipe, execution)
    assert finished("calibrate", recipe, str(tmp_path)) == ref
    calibration = load_calibration(str(tmp_path / ref))
    assert (calibration.n_people, calibration.n_slices) == (N_PEOPLE, 3 * N_PEOPLE)
    plain, with_intervals = made(execution, other, **TV), made(execution, other, **TV, calibration=ref)
    stores = [open_store(str(tmp_path / one)) for one in (plain, with_intervals)]
    np.testing.assert_array_equal(*(one.read("sample", 0, one.n) for one in stores))
    assert stores[0].records() == stores[1].records(), "made once: the record tells how long it took"
    widths = stores[1].read("half_width", 0, stores[1].n)
    assert widths.shape == (3 * N_PEOPLE, 32, 32)
    assert widths.min() > 0
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(with_intervals,)), execution)
    rows = read_scores(str(tmp_path / scores))
    means = {level: np.mean([row[f"coverage_{level}"] for row in rows]) for level in (80, 90, 95)}
    assert means == pytest.approx({80: 0.8, 90: 0.9, 95: 0.95}, abs=0.06)
    page = (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    assert "Half width of 90 % intervals of FISTA-TV" in page
    assert f"half widths from {N_PEOPLE} people" in page


@pytest.mark.usefixtures("prefect_server")
def test_a_shipped_calibration_is_named_as_its_prior(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    measurements = measured(execution, 0)
    ref = calibrate_flow(CalibrateRecipe(reconstructions=made(execution, measurements, **TV)), execution)
    own = made(execution, measurements, **TV, calibration=ref)
    text = load_calibration(str(tmp_path / ref)).model_dump_json().encode()
    ship(monkeypatch, tmp_path / "first", {"small": text})
    shipped = made(execution, measurements, **TV, calibration="small")
    widths = [open_store(str(tmp_path / one)).read("half_width", 0, 3 * N_PEOPLE) for one in (own, shipped)]
    np.testing.assert_array_equal(*widths)
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(shipped,)), execution)
    assert all("coverage_90" in row for row in read_scores(str(tmp_path / scores)))
    page = (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    assert f"half widths from {N_PEOPLE} people" in page
    with pytest.raises(StoreNotFound, match=r"no calibration 'large': shipped are small; .* calibrations/<digest>"):
        made(execution, measurements, **TV, calibration="large")
    # Another one of this name, as a later version ships, is not taken for what was made before.
    ship(monkeypatch, tmp_path / "later", {"small": text + b" "})
    assert made(execution, measurements, **TV, calibration="small") != shipped


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path, calibrations: dict[str, bytes]) -> None:
    """Let these come with the package, and no others."""
    folder.mkdir()
    for name, content in calibrations.items():
        (folder / f"{name}.json").write_bytes(content)
    monkeypatch.setattr("scoreinv.shipped._calibrations_folder", lambda: folder)


def test_the_body_lacks_what_its_data_tell_of_and_the_air_around_it_nothing() -> None:
    """What stands in the residual there is of edges and of streaks, and air's intervals would be wide for nothing."""
    contract = ImageContract(modality="ct", size=64, pixel_mm=5.0, low=-1000, high=1000)
    axis = torch.arange(64) - 31.5
    body = (axis**2 + axis[:, None] ** 2 < 20**2)[None, None]
    operator = SparseViewCT(n_views=23).operator(64)
    spots = torch.zeros(1, 1, 64, 64)
    spots[..., 30:33, 30:33] = spots[..., 5:8, 30:33] = 0.3
    images = 0.5 * body
    problem = InverseProblem(operator, operator.forward(images + spots))
    lacks = estimate_of(images, None, problem, contract).lacks
    assert lacks is not None
    assert float(lacks[..., 31, 31]) > 0.1
    assert not lacks[~body].any()


@pytest.mark.usefixtures("prefect_server")
def test_images_that_are_there_but_damaged_are_made(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    measurements = measured(execution, 0)
    plain = made(execution, measurements, **TV)
    ref = calibrate_flow(CalibrateRecipe(reconstructions=plain), execution)
    store = open_store(str(tmp_path / plain))
    images = store.read("sample", 0, store.n)
    damaged = [path for path in (tmp_path / plain / "sample").rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert damaged
    for path in damaged:
        path.write_bytes(b"nothing")
    with_intervals = open_store(str(tmp_path / made(execution, measurements, **TV, calibration=ref)))
    np.testing.assert_array_equal(with_intervals.read("sample", 0, store.n), images)


@pytest.mark.usefixtures("prefect_server")
def test_of_samples_their_spread_is_what_is_scaled(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    dataset = tiny.dataset(tmp_path, n=4, shard_size=2)
    tiny.measurements(tmp_path, dataset)
    choice = {"method": tiny.sampler(3), "prior": tiny.prior(tmp_path / "prior"), "n_samples": 3}
    ref = calibrate_flow(CalibrateRecipe(reconstructions=made(execution, "measurements/tiny", **choice)), execution)
    store = open_store(str(tmp_path / made(execution, "measurements/tiny", **choice, calibration=ref)))
    assert set(store.layouts) == {"mean", "std", "sample", "half_width"}
    with pytest.raises(UserError, match=r"calibrations/\w+: the calibration is of other n_samples .*3 there, 2 here"):
        made(execution, "measurements/tiny", **{**choice, "n_samples": 2}, calibration=ref)


@pytest.mark.usefixtures("prefect_server")
def test_a_calibration_is_refused_for_other_methods_and_told_of_for_other_data(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    ref = calibrate_flow(CalibrateRecipe(reconstructions=made(execution, measured(execution, 0), **TV)), execution)
    other = measured(execution, 1, acceleration=4)
    with pytest.raises(UserError, match=r"other method .*kind: tv there, direct here"):
        made(execution, other, method={"kind": "direct"}, calibration=ref)
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(made(execution, other, **TV, calibration=ref),)), execution)
    page = (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    said = "Intervals were calibrated at acceleration=2.0 but the data were measured with acceleration=4.0"
    assert said in page
