"""What is packed comes out again: images to half a level, weights to the bit, chances and people as in the training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

from benchmarks.gpu.packed import FILE_BYTES, LEVELS, read_images, read_plan, read_weights, write_images, write_weights
from benchmarks.gpu.packing import pack
from scoreinv.errors import UserError
from scoreinv.operators.mri import CartesianMRI
from scoreinv.training.objectives import Supervised
from storage.datasets import DatasetStore
from tasks.planning.presets import PRESETS
from tasks.workers.training.training_images import read_images as images_of
from tests.benchmarks.gpu.conftest import Packed


def test_images_and_chances_are_those_of_the_training(packed: Packed) -> None:
    dataset = f"{packed.workspace}/datasets/phantoms"
    expected, found = images_of(packed.recipe, [dataset]), read_images(packed.folder, size=16)
    images = found.train.images(torch.arange(len(found.weights)))
    torch.testing.assert_close(images, expected.images, atol=0.5 / LEVELS + 1e-6, rtol=0)
    torch.testing.assert_close(found.held_out, expected.held_out, atol=0.5 / LEVELS + 1e-6, rtol=0)
    torch.testing.assert_close(found.weights, expected.weights)


def test_steps_of_all_sizes_survive(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, LEVELS + 1, (3, 8, 8))
    whole[0, 0, :4] = (0, LEVELS, 0, LEVELS)
    write_images(tmp_path / "images.npz", whole / LEVELS, np.ones(3), whole[:1] / LEVELS)
    found = read_images(tmp_path, size=8)
    assert np.array_equal(found.train.values[:, 0].numpy(), whole)
    assert torch.equal(found.held_out[0, 0], torch.from_numpy(whole[0]).float() / LEVELS)


def test_the_plan_is_the_recipes(packed: Packed) -> None:
    plan, recipe = read_plan(packed.folder), packed.recipe
    assert (plan.network, plan.objective, plan.training) == (recipe.network, recipe.objective, recipe.training)
    assert plan.augmentation == recipe.augmentation
    assert plan.methods == {name: PRESETS["ct"][name].method for name in ("fast", "balanced")}
    assert plan.image == DatasetStore.open(f"{packed.workspace}/datasets/phantoms").contract


def test_each_second_image_on_the_networks_grid_is_moved_by_cubics(packed: Packed, tmp_path: Path) -> None:
    pack(packed.recipe, packed.workspace, tmp_path, every=2)
    found = read_images(tmp_path, size=16)
    assert found.train.values.shape == (9, 1, 16, 16)
    assert float(found.weights.sum()) == pytest.approx(1.0)
    assert read_plan(tmp_path).augmentation.interpolation == "bicubic"
    assert not list(tmp_path.rglob("*.safetensors"))


def test_weights_to_go_on_from_are_packed(packed: Packed, tmp_path: Path) -> None:
    pack(packed.recipe.model_copy(update={"initial": "ct-128"}), packed.workspace, tmp_path)
    assert read_plan(tmp_path).initial_seen > 0
    assert load(read_weights(tmp_path))


def test_what_is_no_prior_is_refused(packed: Packed, tmp_path: Path) -> None:
    recipe = packed.recipe.model_copy(update={"objective": Supervised(measurement=CartesianMRI())})
    with pytest.raises(UserError, match="training of a prior"):
        pack(recipe, packed.workspace, tmp_path)
    for change in ({"band": 8}, {"coarse": "priors/low"}):
        with pytest.raises(UserError, match="whole images alone: leave out band, coarse"):
            pack(packed.recipe.model_copy(update=change), packed.workspace, tmp_path)


def test_weights_lie_in_files_that_are_not_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {f"layer-{i}": torch.randn(300, 10, generator=torch.Generator().manual_seed(i)) for i in range(7)}
    state["frequencies"] = torch.tensor([0.1, 0.2])
    write_weights(tmp_path, state)
    assert FILE_BYTES < 16 * 2**20
    monkeypatch.setattr("benchmarks.gpu.packed.FILE_BYTES", 25_000)
    write_weights(tmp_path, state)
    assert len(list(tmp_path.glob("weights-*"))) == 4
    assert all(torch.equal(value, state[name]) for name, value in load(read_weights(tmp_path)).items())
    # Half as exact where there would be too many, but for the few numbers that need their digits.
    monkeypatch.setattr("benchmarks.gpu.packed.MOST_FILES", 2)
    write_weights(tmp_path, state)
    assert len(list(tmp_path.glob("weights-*"))) == 2
    found = load(read_weights(tmp_path))
    assert torch.equal(found["frequencies"], state["frequencies"])
    torch.testing.assert_close(found["layer-3"], state["layer-3"].bfloat16().float(), atol=0, rtol=0)
