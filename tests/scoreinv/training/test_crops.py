"""Crops lie where their places say, and a network that learned from them knows whole images."""

import pytest
import torch
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.denoiser import EDMPreconditioning, ScoreModel
from scoreinv.errors import UserError
from scoreinv.nets import UNet
from scoreinv.training.augment import Augmentation
from scoreinv.training.checkpoint import build_models
from scoreinv.training.crops import CroppedBatches
from scoreinv.training.data import ImageBatches
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import Denoising

SIZE, CROP = 16, 8
IMAGE = ImageContract(modality="mri", size=SIZE, pixel_mm=16.0, low=0, high=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows_and_columns(n: int, _: torch.Generator) -> Tensor:
    """Images whose two channels are each pixel's row and column, from the middle."""
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, indexing="ij")).expand(n, -1, -1, -1)


def test_a_place_is_the_middle_of_its_crop() -> None:
    places, crops = CroppedBatches(rows_and_columns, CROP)(50, generator())
    assert crops.shape == (50, 2, CROP, CROP)
    torch.testing.assert_close(crops.mean((2, 3)), places)
    assert len({tuple(one) for one in places.tolist()}) > 20


def test_all_places_are_equally_likely_and_none_lies_outside() -> None:
    n = 18_000
    places, _ = CroppedBatches(rows_and_columns, CROP)(n, generator())
    for axis in places.unbind(1):
        counts = torch.bincount((axis + (SIZE - CROP) / 2).long(), minlength=9)
        assert len(counts) == SIZE - CROP + 1
        # Four standard deviations of a count.
        assert float((counts / n - 1 / 9).abs().max()) < 4 * (1 / 9 * 8 / 9 / n) ** 0.5


def test_the_same_generator_gives_the_same_crops() -> None:
    draw = CroppedBatches(rows_and_columns, CROP)
    first, again, other = (draw(5, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_crops_are_of_images_that_were_averaged_down() -> None:
    fine = torch.rand(3, 1, 2 * SIZE, 2 * SIZE, generator=generator())
    still = Augmentation(probability=0.0, can_flip=False)
    images = ImageBatches(fine, SIZE, weights=torch.ones(3), augmentation=still, device=torch.device("cpu"))
    places, crops = CroppedBatches(images, CROP)(1, generator())
    row, column = (places[0] + (SIZE - CROP) / 2).long().tolist()
    coarse = torch.nn.functional.avg_pool2d(fine, 2)[..., row : row + CROP, column : column + CROP]
    assert any(torch.equal(crops[0], one) for one in coarse)


def test_crops_larger_than_the_images_are_refused() -> None:
    with pytest.raises(UserError, match="crops of 20 pixels do not fit into images of 16"):
        CroppedBatches(rows_and_columns, 20)(1, generator())
    with pytest.raises(UserError, match=r"objective.crop=20 is more than the 16 pixels"):
        Denoising(crop=20).sizes(IMAGE)


def rings(n: int, _: torch.Generator) -> Tensor:
    """One picture again and again: bright in the lower right quarter."""
    picture = torch.zeros(1, SIZE, SIZE)
    picture[:, SIZE // 2 :, SIZE // 2 :] = 1.0
    return picture.expand(n, -1, -1, -1)


def error_of_whole_images(*, has_position: bool) -> float:
    """Of the picture under noise in which nothing of it can be seen, after a training on crops of it."""
    network = UNet(patch=1, n_features=16, channel_multipliers=(1,), n_middle=0, has_position=has_position)
    levels = LogNormalLevels(mean=1.0, std=0.5, sigma_min=0.5, sigma_data=0.4)
    objective = Denoising(preconditioning=EDMPreconditioning(mean=0.25, sigma_data=0.4), levels=levels, crop=CROP)
    spec = TrainSpec(n_images=1600, batch_size=16, learning_rate=5e-3, warmup_images=0, is_bfloat16=False)
    state = TrainState.fresh(build_models(objective, network, IMAGE), spec)
    for _ in train(state, objective.batches(rings, IMAGE), objective, spec):
        pass
    model, truth = state.ema.model, rings(4, generator())
    assert isinstance(model, ScoreModel)
    noise = 10.0 * torch.randn(truth.shape, generator=generator(3))
    return float((model(truth + noise, torch.tensor(10.0)) - truth).square().mean().sqrt())


def test_a_network_that_is_told_the_places_of_crops_knows_where_things_are_in_whole_images() -> None:
    """Without them the best answer is the mean of the picture, whose deviation is 0.43."""
    assert error_of_whole_images(has_position=True) < 0.2
    assert error_of_whole_images(has_position=False) > 0.3
