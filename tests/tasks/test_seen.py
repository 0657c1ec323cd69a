"""A report says which of its slices a model was trained on."""

import re
from pathlib import Path

import pytest

from flows.calibrate import calibrate_flow
from flows.evaluate import evaluate_flow
from flows.ingest import ingest_flow
from flows.measure import measure_flow
from flows.reconstruct import reconstruct_flow
from flows.report import report_flow
from scoreinv import shipped
from scoreinv.errors import UserError
from scoreinv.shipped import prior_contract, prior_names
from storage.datasets import DatasetStore
from storage.models import read_contract
from storage.sources import DicomSource, NiftiSource
from storage.sources.phantom import PhantomSource
from tasks.recipes import CalibrateRecipe, EvaluateRecipe, IngestRecipe, MeasureRecipe, ReconstructRecipe, ReportRecipe
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tasks.workers.calibrate import load_calibration
from tests.tasks import tiny
from tests.tasks.trainings import SIZE, going_on, ingested, job_for, run_here

N_SLICES = 3


def phantoms(seed: int) -> PhantomSource:
    return PhantomSource(n_slices=N_SLICES, size=32, pixel_mm=10.0, seed=seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three people of one data set, and then of three of another one; the fourth is held out."""
    folder = tmp_path_factory.mktemp("trained")
    datasets = [ingested(str(folder / str(seed)), phantoms(seed)) for seed in (0, 1)]
    run_here(job_for(datasets[0], folder / "first", n_images=48), folder)
    run_here(
        going_on(job_for(datasets[1], folder / "later" / "second", n_images=96), folder / "first", "priors/first"),
        folder,
    )
    return folder


def reconstructed(execution: Execution, seed: int, prior: str) -> str:
    """Images of four people by a prior."""
    image = {"modality": "ct", "size": SIZE, "pixel_mm": 20.0, "low": -1000, "high": 1000}
    ingest = IngestRecipe.model_validate({"source": phantoms(seed).model_dump(), "image": image})
    measurement = {"kind": "sparse_view_ct", "n_views": 8}
    measure = {"dataset": ingest_flow(ingest, execution), "simulation": {"measurement": measurement}}
    measurements = measure_flow(MeasureRecipe.model_validate(measure), execution)
    choice = {"method": tiny.sampler(2), "prior": prior}
    recipe = ReconstructRecipe.model_validate({"measurements": measurements, "reconstruction": choice})
    return reconstruct_flow(recipe, execution)


def checksums(folder: Path, seed: int) -> set[str]:
    records = DatasetStore.open(str(folder / str(seed))).records
    return {one.checksum for one in records if one.subject_id != "phantom-3"}


def test_a_model_knows_what_it_and_the_one_that_it_went_on_from_were_trained_on(trained: Path) -> None:
    first, second = (read_contract(str(trained / name / "prior")).slices for name in ("first", "later/second"))
    assert set(first) == checksums(trained, 0)
    assert set(second) == checksums(trained, 0) | checksums(trained, 1)
    assert first


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize(("seed", "is_seen"), [(0, True), (7, False)])
def test_what_it_makes_of_them_is_flagged(tmp_path: Path, trained: Path, seed: int, is_seen: bool) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    reconstructions = reconstructed(execution, seed, str(trained / "first" / "prior"))
    scores = evaluate_flow(EvaluateRecipe(reconstructions=(reconstructions,)), execution)
    page = (tmp_path / report_flow(ReportRecipe(scores=(scores,)), execution)).read_text()
    said = '<p class="flag">tiny was trained on 9 of these 12 slices, of 3 people: '
    assert (said in page) == is_seen
    assert ("was trained on" in page) == is_seen


@pytest.mark.parametrize("name", prior_names())
def test_shipped_priors_know_every_slice_that_their_cards_count(name: str) -> None:
    card = (Path(shipped.__file__).parent / "priors" / f"{name}.md").read_text()
    counted = re.search(r"drawn from (\d+) different ones", card)
    assert counted
    assert len(set(prior_contract(name).slices)) == int(counted[1])


def test_no_shipped_prior_has_seen_the_example_slices() -> None:
    for source in (DicomSource(path="shipped:ct"), NiftiSource(path="shipped:mri")):
        examples = {one.checksum for one in source.listing().slices}
        assert len(examples) == 8
        assert not examples & {one for name in prior_names() for one in prior_contract(name).slices}


@pytest.mark.usefixtures("prefect_server")
def test_a_calibration_leaves_out_whom_the_model_has_seen(
    tmp_path: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    prior = str(trained / "first" / "prior")
    strangers = CalibrateRecipe(reconstructions=reconstructed(execution, 7, prior))
    calibration = load_calibration(str(tmp_path / calibrate_flow(strangers, execution)))
    assert (calibration.n_people, calibration.n_slices) == (4, 4 * N_SLICES)
    assert "are left out" not in caplog.text
    with pytest.raises(UserError, match="two people or more whose truth is known, not 1"):
        calibrate_flow(CalibrateRecipe(reconstructions=reconstructed(execution, 0, prior)), execution)
    assert "3 people are left out" in caplog.text
