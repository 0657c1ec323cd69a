"""A training that goes on from published weights: its curve begins with theirs, and it publishes nothing worse."""

from pathlib import Path
from typing import Any

import pytest

from scoreinv.errors import UserError
from storage.models import load, read_contract
from storage.sources.phantom import PhantomSource
from storage.uri import join
from tasks.recipes import TrainRecipe
from tasks.train import _require_more_images
from tasks.workers.training.curve import mean_log, read_curve
from tasks.workers.training.train_job import TrainJob
from tests.tasks.trainings import RECIPE, ingested, job_for, run_here


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four phantoms of 6 slices."""
    source = PhantomSource(n_slices=6, size=32, pixel_mm=10.0)
    return ingested(str(tmp_path_factory.mktemp("data") / "phantoms"), source)


@pytest.fixture(scope="module")
def one_process(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of 160 images."""
    folder = tmp_path_factory.mktemp("one")
    run_here(job_for(dataset, folder / "prior"), folder)
    return folder / "prior"


def of_length(n_images: int) -> TrainRecipe:
    """A recipe that goes on until so many images are seen."""
    return RECIPE.model_copy(update={"training": RECIPE.training.model_copy(update={"n_images": n_images})})


def gone_on(dataset: str, initial: Path, folder: Path, **training: Any) -> TrainJob:
    """A training of 16 images from the weights that another published, run to its end."""
    uri = join(str(initial), "prior")
    job = job_for(dataset, folder / "prior").model_copy(
        update={"initial": uri, "initial_sha256": read_contract(uri).sha256}
    )
    spec = RECIPE.training.model_copy(update={"n_images": 176, **training})
    job = job.model_copy(update={"recipe": RECIPE.model_copy(update={"training": spec, "initial": "tiny-1"})})
    run_here(job, folder)
    return job


def test_a_curve_begins_with_the_weights_that_a_training_goes_on_from(
    dataset: str, one_process: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = gone_on(dataset, one_process, tmp_path, learning_rate=1e-3)
    start, end = read_curve(job.target)
    assert (start.images_seen, start.loss, end.images_seen) == (160, None, 176)
    assert start.validation_rmse == read_curve(str(one_process))[-1].validation_rmse
    assert mean_log(end.validation_rmse) < mean_log(start.validation_rmse)
    assert load(join(job.target, "prior"))[0] != load(join(str(one_process), "prior"))[0]
    card = (tmp_path / "prior" / "prior" / "card.md").read_text()
    assert "| after 160 images, before this training | after 176 images |" in card
    assert "before the first step: validation rmse" in capsys.readouterr().out


def test_a_training_that_does_not_help_publishes_what_it_began_with(
    dataset: str, one_process: Path, tmp_path: Path
) -> None:
    job = gone_on(dataset, one_process, tmp_path, learning_rate=0.5)
    start, end = read_curve(job.target)
    assert mean_log(end.validation_rmse) > mean_log(start.validation_rmse)
    weights, contract = load(join(job.target, "prior"))
    assert weights == load(join(str(one_process), "prior"))[0]
    assert contract.images_seen == 176, "or the training would never be done"
    card = (tmp_path / "prior" / "prior" / "card.md").read_text()
    assert "it did not help on held-out people: these are the weights of tiny-1, unchanged" in card
    assert (tmp_path / "prior" / "prior" / "curve.png").exists()


def test_a_training_that_has_nothing_to_add_is_refused(one_process: Path) -> None:
    initial = join(str(one_process), "prior")
    assert _require_more_images(initial, of_length(168)) == read_contract(initial).sha256
    with pytest.raises(UserError, match=r"has seen 160 images, and training\.n_images=160 counts these"):
        _require_more_images(initial, of_length(160))
