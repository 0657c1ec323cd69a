"""Positions: as ever at the trained size, in the same millimetres at others, and in crops those of the whole image."""

import pytest
import torch
from torch import Tensor

from scoreinv.nets.position import position_of


def whole(side: int, size: int = 0) -> Tensor:
    return position_of(torch.zeros(1, 1, side, side), size)


@pytest.mark.parametrize("size", [0, 21])
def test_at_the_trained_size_they_are_bit_for_bit_from_minus_one_to_one(size: int) -> None:
    axis = torch.linspace(-1, 1, 21)
    expected = torch.stack([axis[:, None].expand(21, 21), axis.expand(21, 21)])[None]
    assert torch.equal(whole(21, size), expected)


@pytest.mark.parametrize("side", [11, 31])
def test_other_sizes_have_the_same_coordinates_in_the_middle(side: int) -> None:
    smaller, larger = sorted([whole(side, 21), whole(21, 21)], key=Tensor.numel)
    torch.testing.assert_close(larger[..., 5:-5, 5:-5], smaller)
    assert float(whole(side, 21).amax()) == pytest.approx((side - 1) / 20)


def test_a_crop_has_the_coordinates_of_its_place() -> None:
    crops = torch.zeros(2, 1, 8, 8)
    # Corners at (0, 0) and (3, 12) of 20 x 20.
    place = torch.tensor([[0.0, 0.0], [3.0, 12.0]]) - (20 - 8) / 2
    found = position_of(crops, 20, place)
    torch.testing.assert_close(found[0], whole(20)[0, :, :8, :8])
    torch.testing.assert_close(found[1], whole(20)[0, :, 3:11, 12:20])


def test_images_may_be_one_pixel_wide_and_need_not_be_square() -> None:
    found = position_of(torch.zeros(3, 1, 1, 5))
    assert found.shape == (3, 2, 1, 5)
    torch.testing.assert_close(found[2, 1, 0], torch.linspace(-1, 1, 5))
    assert bool(found.isfinite().all())
