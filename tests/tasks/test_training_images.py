"""The images of a training: whose they are, with which chances, from memory or from a file."""

from pathlib import Path
from typing import Any

import pytest
import torch

from scoreinv.training.augment import Augmentation
from scoreinv.training.data import ImageBatches
from scoreinv.training.integers import Integers
from storage.datasets import DatasetStore
from storage.sources.phantom import PhantomSource
from tasks.workers.training.training_images import N_VALIDATION, for_device, read_images
from tests.tasks.trainings import RECIPE, SIZE, ingested


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four phantoms of 6 slices."""
    return ingested(
        str(tmp_path_factory.mktemp("data") / "phantoms"), PhantomSource(n_slices=6, size=32, pixel_mm=10.0)
    )


def test_images_of_held_out_subjects_are_not_trained_on(dataset: str) -> None:
    store = DatasetStore.open(dataset)
    found = read_images(RECIPE, [dataset])
    held_out = torch.tensor([record.subject_id == "phantom-3" for record in store.records])
    assert found.slices == tuple(one.checksum for one in store.records if one.subject_id != "phantom-3")
    assert all(found.slices)
    assert torch.equal(found.images[:, 0], torch.from_numpy(store.fine_images(0, 24))[~held_out])
    torch.testing.assert_close(found.held_out[:, 0], torch.from_numpy(store.images(0, 24))[held_out], atol=1e-5, rtol=0)


def test_each_data_set_is_drawn_by_its_share_whoever_is_held_out(dataset: str, tmp_path: Path) -> None:
    other = ingested(str(tmp_path / "other"), PhantomSource(n_volumes=2, n_slices=8, size=32, pixel_mm=10.0, seed=7))
    recipe = RECIPE.model_copy(update={"datasets": ("datasets/a", "datasets/b"), "shares": (0.7, 0.3)})
    found = read_images(recipe, [dataset, other])
    assert len(found.images) == 18 + 16
    assert float(found.weights[:18].sum()) == pytest.approx(0.7)
    assert float(found.weights[18:].sum()) == pytest.approx(0.3)
    by_size = read_images(recipe.model_copy(update={"shares": ()}), [dataset, other]).weights
    assert float(by_size[:18].sum() / by_size.sum()) == pytest.approx(18 / 34)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_subjects": ("phantom-3", "nobody")}, "validation_subjects names nobody"),
        ({"shares": (0.5, 0.5)}, "shares has 2 numbers for 1 data sets"),
    ],
)
def test_recipes_that_do_not_fit_the_data_are_refused(dataset: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_images(RECIPE.model_copy(update=changes), [dataset])


def test_data_sets_that_differ_are_refused(dataset: str, tmp_path: Path) -> None:
    coarse = ingested(str(tmp_path / "coarse"), PhantomSource(n_volumes=1, n_slices=1), fine_factor=1)
    with pytest.raises(ValueError, match="1 times finer, but .* 2 times finer: ingest them alike"):
        read_images(RECIPE, [dataset, coarse])


def test_images_in_a_file_are_drawn_as_those_in_memory(dataset: str, tmp_path: Path) -> None:
    other = ingested(str(tmp_path / "other"), PhantomSource(n_volumes=2, n_slices=8, size=32, pixel_mm=10.0, seed=7))
    recipe = RECIPE.model_copy(update={"datasets": ("datasets/a", "datasets/b")})
    memory = read_images(recipe, [dataset, other])
    file = read_images(recipe, [dataset, other], max_gib=0, cache=str(tmp_path / "cache"))
    assert memory.file is None
    assert file.file is not None
    assert file.file.stat().st_size == memory.images.nbytes
    assert torch.equal(file.images, memory.images)
    assert torch.equal(file.held_out, memory.held_out)
    draws = [
        ImageBatches(
            found.images, SIZE, weights=found.weights, augmentation=Augmentation(), device=torch.device("cpu")
        )(8, torch.Generator().manual_seed(3))
        for found in (memory, file)
    ]
    assert torch.equal(*draws)
    held_out_others = recipe.model_copy(update={"validation_subjects": ("phantom-2",)})
    assert read_images(held_out_others, [dataset, other], max_gib=0, cache=str(tmp_path / "cache")).file != file.file


def test_of_many_held_out_images_some_are_taken_evenly_over_all_data_sets(dataset: str, tmp_path: Path) -> None:
    other = ingested(str(tmp_path / "other"), PhantomSource(n_volumes=5, n_slices=40, size=16, pixel_mm=20.0, seed=7))
    recipe = RECIPE.model_copy(update={"datasets": ("a", "b"), "validation_subjects": ("phantom-2", "phantom-3")})
    stores = [DatasetStore.open(uri) for uri in (dataset, other)]
    wanted = [record.subject_id in recipe.validation_subjects for store in stores for record in store.records]
    coarse = torch.cat([torch.from_numpy(store.images(0, len(store))) for store in stores])[wanted]
    assert len(coarse) == 12 + 80
    chosen = coarse[torch.linspace(0, len(coarse) - 1, N_VALIDATION).long()]
    found = read_images(recipe, [dataset, other]).held_out
    torch.testing.assert_close(found[:, 0], chosen, atol=1e-5, rtol=0)


def test_on_a_cpu_images_stay_where_they_are() -> None:
    images = torch.zeros(3, 1, 4, 4)
    assert for_device(images, torch.device("cpu")) is images


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_images_are_integers_where_they_can() -> None:
    whole = torch.arange(48.0).view(3, 1, 4, 4) / 2000
    stored = for_device(whole, torch.device("cuda"))
    assert isinstance(stored, Integers)
    assert torch.equal(stored.images(torch.arange(3, device="cuda")).cpu(), whole)
    assert isinstance(for_device(whole.exp() / 3, torch.device("cuda")), torch.Tensor)
