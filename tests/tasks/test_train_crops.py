"""Trainings on crops: they resume bit for bit, publish the sizes they serve, and go on from a prior of another size."""

from pathlib import Path
from typing import Any

import pytest
import torch

from scoreinv.contract import PriorContract
from storage.models import load
from storage.sources.phantom import PhantomSource
from tasks.running.torchrun import torchrun
from tasks.workers.priors import load_prior
from tasks.workers.training.curve import read_curve
from tasks.workers.training.train_job import TrainJob
from tests.tasks.trainings import RECIPE, SIZE, going_on, ingested, job_for, run_here

CROPS = RECIPE.objective.model_copy(update={"crop": 8})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return ingested(
        str(tmp_path_factory.mktemp("data") / "phantoms"), PhantomSource(n_slices=3, size=32, pixel_mm=10.0)
    )


def crops_job(dataset: str, target: Path, **changes: Any) -> TrainJob:
    return job_for(dataset, target, objective=CROPS, **changes)


@pytest.fixture(scope="module")
def unbroken(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    run_here(crops_job(dataset, folder / "prior"), folder)
    return folder / "prior"


def test_what_is_published_serves_sizes_from_a_crop_to_the_whole_image(unbroken: Path) -> None:
    model, contract = load_prior(str(unbroken / "prior"), "cpu", "float32")
    assert contract.served_sizes() == (8, SIZE)
    assert "any from 8 x 8 to 16 x 16: it was trained on crops" in (unbroken / "prior" / "card.md").read_text()
    for side in (8, 12, 16):
        x = torch.zeros(1, 1, side, side)
        assert model(x, torch.tensor(1.0)).shape == x.shape
    # Validated on whole images, whose error falls.
    rows = read_curve(str(unbroken))
    assert rows[-1].validation_rmse[-2] < rows[0].validation_rmse[-2]


def test_a_training_in_two_parts_ends_as_an_unbroken_one(dataset: str, unbroken: Path, tmp_path: Path) -> None:
    run_here(crops_job(dataset, tmp_path / "short", n_images=80), tmp_path)
    run_here(crops_job(dataset, tmp_path / "long"), tmp_path)
    assert load(str(tmp_path / "long" / "prior"))[0] == load(str(unbroken / "prior"))[0]


def test_crops_have_an_address_of_their_own() -> None:
    crops = RECIPE.model_copy(update={"objective": CROPS})
    other = RECIPE.model_copy(update={"objective": CROPS.model_copy(update={"crop": 4})})
    assert len({RECIPE.address(), crops.address(), other.address()}) == 3


def test_two_processes_train_on_crops_and_go_on_from_a_prior_of_another_size(
    dataset: str, unbroken: Path, tmp_path: Path
) -> None:
    """From 16 x 16 pixels of 20 mm to 32 x 32 of 10 mm: the same network, position and field of view."""
    source = PhantomSource(n_slices=3, size=32, pixel_mm=10.0)
    finer = ingested(str(tmp_path / "finer"), source, fine_factor=1, size=32, pixel_mm=10.0)
    job = going_on(crops_job(finer, tmp_path / "prior", n_images=208), unbroken, "tiny-16")
    lines = list(torchrun(job, 2))
    assert any("goes on from tiny-16, which has seen 160 images" in line for line in lines)
    found, contract = load(str(tmp_path / "prior" / "prior"))
    assert isinstance(contract, PriorContract)
    assert (contract.image.size, contract.served_sizes(), contract.images_seen) == (32, (8, 32), 208)
    card = (tmp_path / "prior" / "prior" / "card.md").read_text()
    # Of two images of 32 x 32 the first weights may denoise better: then they are published, and the card says so.
    assert (found == load(str(unbroken / "prior"))[0]) == ("it did not help on held-out people" in card)
    assert "of them 160 as tiny-16, which is for 16 x 16 pixels of 20 mm, from whose weights" in card
