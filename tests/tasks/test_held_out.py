"""What people who are held out decide: which average is published, or that going on from weights did not help."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scoreinv.errors import UserError
from scoreinv.training.best import mean_log
from storage.models import load, read_contract
from storage.sources.phantom import PhantomSource
from storage.uri import join
from tasks.trained import is_trained, require_more_images, share_of, with_subjects_as_known
from tasks.workers.priors import load_prior
from tasks.workers.training import train as worker
from tasks.workers.training.curve import read_curve
from tasks.workers.training.train_job import TrainJob
from tasks.workers.training.training_images import read_images
from tests.tasks.trainings import RECIPE, going_on, ingested, job_for, longer, run_here


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


def gone_on(dataset: str, initial: Path, folder: Path, **training: Any) -> TrainJob:
    """A training of 16 images from the weights that another published, run to its end."""
    spec = RECIPE.training.model_copy(update={"n_images": 176, **training})
    job = going_on(job_for(dataset, folder / "prior", training=spec), initial, "tiny-1")
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
    assert require_more_images(initial, longer(RECIPE, 168)) == read_contract(initial).sha256
    with pytest.raises(UserError, match=r"has seen 160 images, and training\.n_images=160 counts these"):
        require_more_images(initial, longer(RECIPE, 160))


def test_of_several_averages_the_best_is_published(dataset: str, one_process: Path, tmp_path: Path) -> None:
    training = RECIPE.training.model_copy(update={"more_half_lives": (8, 1_000_000)})
    job = job_for(dataset, tmp_path / "prior", training=training)
    run_here(job, tmp_path)
    row = read_curve(job.target)[-1]
    assert list(row.rmse_by_half_life) == [40, 8, 1_000_000]
    assert row.rmse_by_half_life[40] == read_curve(str(one_process))[-1].validation_rmse
    means = {length: np.log(errors).mean() for length, errors in row.rmse_by_half_life.items()}
    assert row.half_life == min(means, key=lambda length: means[length])
    assert row.validation_rmse == row.rmse_by_half_life[row.half_life]
    model, contract = load_prior(join(job.target, "prior"), "cpu", "float32")
    assert (
        RECIPE.objective.errors(model, read_images(RECIPE, [dataset]).held_out, contract.image) == row.validation_rmse
    )
    card = (tmp_path / "prior" / "prior" / "card.md").read_text()
    assert f"averaged with a half-life of {row.half_life} images, of 40, 8, 1000000 the best on held-out people" in card


def test_the_best_average_of_all_validations_is_published_where_the_recipe_wants_it(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if held-out people were denoised worse and worse after the second of four validations."""
    until = tmp_path / "until"
    until.mkdir()
    run_here(job_for(dataset, until / "prior", n_images=96), until)
    errors = {48: 0.3, 96: 0.2, 144: 0.25, 160: 0.21}
    monkeypatch.setattr(worker, "_errors", lambda recipe, state, images: {40: (errors[state.images_seen],) * 9})
    job = job_for(dataset, tmp_path / "prior", training=RECIPE.training.model_copy(update={"keeps_best": True}))
    run_here(job, tmp_path)
    weights, contract = load(join(job.target, "prior"))
    assert weights == load(str(until / "prior" / "prior"))[0]
    assert contract.images_seen == 96
    assert is_trained(job.target, job.recipe)
    assert not is_trained(job.target, longer(job.recipe, 161))
    card = (tmp_path / "prior" / "prior" / "card.md").read_text()
    assert "the best on held-out people of 160 images of training" in card
    assert "| noise level | after 48 images | after 96 images |" in card
    # The checkpoint knows it, too.
    (tmp_path / "prior" / "prior" / "contract.json").unlink()
    run_here(job, tmp_path)
    assert load(join(job.target, "prior")) == (weights, contract)


def test_a_share_of_the_people_is_held_out_by_their_names(dataset: str, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "datasets" / "phantoms")

    def held_out(**changes: Any) -> tuple[str, ...]:
        known = with_subjects_as_known(RECIPE.model_copy(update=changes), str(tmp_path))
        assert known.validation_share == 0, "the same training as one that names them"
        return known.validation_subjects

    assert held_out() == ("phantom-3",)
    (chosen,) = held_out(validation_subjects=(), validation_share=0.25)
    assert held_out(validation_subjects=(), validation_share=0.01) == (chosen,)
    more = held_out(validation_subjects=("phantom-3",), validation_share=0.5)
    assert more[0] == "phantom-3"
    assert len(set(more)) == 3


def test_who_is_held_out_hardly_changes_when_somebody_joins() -> None:
    people = [f"person-{i}" for i in range(40)]
    before, after = (set(share_of(some, 0.2)) for some in (people, [*people, "newcomer"]))
    assert len(before) == 8
    assert len(before - after) <= 1
