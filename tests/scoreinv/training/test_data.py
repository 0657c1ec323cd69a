"""Images are drawn with the chances they are given."""

import pytest
import torch

from scoreinv.training.augment import Augmentation
from scoreinv.training.data import ImageBatches, balanced_weights

AS_THEY_ARE = Augmentation(probability=0.0, can_flip=False)
CPU = torch.device("cpu")


def test_with_power_one_all_images_have_the_same_chance() -> None:
    torch.testing.assert_close(balanced_weights(["a", "b", "b", "b"], power=1.0), torch.full((4,), 0.25).double())


def test_with_power_zero_all_groups_have_the_same_chance() -> None:
    weights = balanced_weights(["a", "b", "b", "b"], power=0.0)
    torch.testing.assert_close(weights, torch.tensor([1 / 2, 1 / 6, 1 / 6, 1 / 6], dtype=torch.float64))


def test_with_power_one_half_a_group_counts_as_the_root_of_its_size() -> None:
    weights = balanced_weights(["b", "a", "b", "b", "b"], power=0.5)
    # Groups of 4 and 1 are drawn as 2 : 1.
    expected = torch.tensor([1 / 6, 1 / 3, 1 / 6, 1 / 6, 1 / 6], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)


def test_no_groups_have_no_weights() -> None:
    assert len(balanced_weights([])) == 0


def batches(weights: torch.Tensor) -> ImageBatches:
    images = torch.arange(float(len(weights))).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return ImageBatches(images, 4, weights=weights, augmentation=AS_THEY_ARE, device=CPU)


def test_images_are_drawn_with_these_chances() -> None:
    weights, n = torch.tensor([0.5, 0.0, 0.2, 0.3], dtype=torch.float64), 20_000
    drawn = batches(weights)(n, torch.Generator().manual_seed(0))[:, 0, 0, 0].long()
    shares = torch.bincount(drawn, minlength=4) / n
    assert float(shares[1]) == 0
    torch.testing.assert_close(shares.double(), weights, atol=4 * 0.5 / n**0.5, rtol=0)


def test_the_same_generator_draws_the_same_images() -> None:
    draw = batches(torch.ones(30, dtype=torch.float64))
    first, again, other = (draw(8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_weights_must_match_the_images() -> None:
    with pytest.raises(ValueError, match="3 images came with 2 weights"):
        ImageBatches(torch.zeros(3, 1, 4, 4), 4, weights=torch.ones(2), augmentation=AS_THEY_ARE, device=CPU)


@pytest.mark.parametrize("shape", [(6, 6), (8, 4)])
def test_images_must_be_a_multiple_of_the_size(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no whole multiple of 4"):
        ImageBatches(torch.zeros(2, 1, *shape), 4, weights=torch.ones(2), augmentation=AS_THEY_ARE, device=CPU)
