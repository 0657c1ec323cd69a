"""Augmentation moves images without changing what their values mean."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scoreinv.training.augment import Augmentation

NOTHING = Augmentation(probability=0.0, can_flip=False, degrees=0.0, zoom=0.0, shift=0.0, gain=0.0)
MOVED = Augmentation(probability=1.0, can_flip=False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def textures(n: int, side: int) -> Tensor:
    return torch.rand(n, 1, side, side, generator=generator(5))


def blobs(n: int, side: int, *, width: float = 0.15) -> Tensor:
    """Smooth spots in the middle of a dark field; their width is relative to half the side."""
    grid = (torch.arange(side) + 0.5) * 2 / side - 1
    spot = torch.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / (2 * width**2))
    return spot.expand(n, 1, side, side).clone()


def test_with_nothing_allowed_images_stay_as_they_are() -> None:
    images = textures(5, 16)
    assert torch.equal(NOTHING.apply(images, 16, generator()), images)


def test_a_transform_of_size_zero_stays_in_place() -> None:
    images = textures(5, 16)
    still = NOTHING.model_copy(update={"probability": 1.0})
    torch.testing.assert_close(still.apply(images, 16, generator()), images, atol=1e-5, rtol=0)


def test_fine_images_become_block_means() -> None:
    images = textures(3, 32)
    expected = images.view(3, 1, 16, 2, 16, 2).mean((3, 5))
    torch.testing.assert_close(NOTHING.apply(images, 16, generator()), expected)


def test_flips_mirror_half_of_the_images_and_do_nothing_else() -> None:
    images = textures(400, 8)
    result = NOTHING.model_copy(update={"can_flip": True}).apply(images, 8, generator())
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 160 < int(mirrored.sum()) < 240


def test_the_same_generator_gives_the_same_images() -> None:
    images = textures(6, 16)
    everything = Augmentation(gain=0.2)
    first, again = (everything.apply(images, 8, generator(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, everything.apply(images, 8, generator(4)))


def test_each_image_is_moved_in_its_own_way() -> None:
    first, second = MOVED.apply(blobs(2, 32), 32, generator())
    assert float((first - second).abs().max()) > 0.05


def test_about_the_wanted_share_is_moved() -> None:
    images = textures(400, 8)
    result = MOVED.model_copy(update={"probability": 0.3}).apply(images, 8, generator())
    moved = (result != images).flatten(1).any(1)
    assert 80 < int(moved.sum()) < 160


def test_turns_and_shifts_keep_the_mean_of_an_object_that_stays_inside() -> None:
    images = blobs(50, 64)
    result = MOVED.model_copy(update={"zoom": 0.0}).apply(images, 64, generator())
    torch.testing.assert_close(result.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0.01, atol=0)


def test_zoom_changes_the_area_within_its_bounds() -> None:
    images = blobs(100, 64)
    result = MOVED.model_copy(update={"zoom": 0.2, "shift": 0.0, "degrees": 0.0}).apply(images, 64, generator())
    ratio = result.mean((1, 2, 3)) / images.mean((1, 2, 3))
    assert float(ratio.max()) < math.exp(0.4) * 1.02
    assert float(ratio.min()) > math.exp(-0.4) * 0.98
    assert float(ratio.max()) > 1.3 > 1 / 1.3 > float(ratio.min())


def test_shifts_stay_within_their_bound() -> None:
    images = blobs(100, 64)
    result = MOVED.model_copy(update={"zoom": 0.0, "shift": 0.1, "degrees": 0.0}).apply(images, 64, generator())
    columns = (torch.arange(64) - 31.5).view(1, 1, 1, 64)
    offset = (result * columns).sum((1, 2, 3)) / result.sum((1, 2, 3))
    assert 5.0 < float(offset.abs().max()) <= 6.5


def test_turns_reach_their_bound_and_not_further() -> None:
    # A bar off the middle: the direction of its centre of mass tells the angle.
    bar = torch.zeros(200, 1, 64, 64)
    bar[:, :, 30:34, 44:52] = 1
    result = MOVED.model_copy(update={"zoom": 0.0, "shift": 0.0, "degrees": 20.0}).apply(bar, 64, generator())
    grid = torch.arange(64) - 31.5
    mass = result.sum((1, 2, 3))
    row = (result * grid.view(1, 1, 64, 1)).sum((1, 2, 3)) / mass
    column = (result * grid.view(1, 1, 1, 64)).sum((1, 2, 3)) / mass
    degrees = torch.atan2(row, column) * 180 / math.pi
    assert float(degrees.abs().max()) <= 20.2
    assert float(degrees.max()) > 15
    assert float(degrees.min()) < -15


def test_from_twice_finer_images_little_contrast_is_lost() -> None:
    # Stripes of 6 pixels on the final grid; interpolating on it would cost up to a quarter of their contrast.
    fine = (0.5 + 0.5 * torch.sin(torch.arange(128) * 2 * math.pi / 12)).expand(40, 1, 128, 128).clone()
    turned = MOVED.model_copy(update={"zoom": 0.0, "shift": 0.06, "degrees": 5.0})
    inside = (slice(None), slice(None), slice(16, 48), slice(16, 48))
    kept = turned.apply(fine, 64, generator())[inside].flatten(1).std(1) / F.avg_pool2d(fine, 2)[inside].std()
    assert float(kept.mean()) > 0.95
    coarse = turned.apply(F.avg_pool2d(fine, 2), 64, generator())[inside].flatten(1).std(1)
    assert float(kept.mean()) > float((coarse / F.avg_pool2d(fine, 2)[inside].std()).mean())


def test_gain_scales_all_values_of_an_image_alike() -> None:
    images = textures(50, 8) + 0.1
    ratio = NOTHING.model_copy(update={"gain": 0.2}).apply(images, 8, generator()) / images
    torch.testing.assert_close(ratio.amin((1, 2, 3)), ratio.amax((1, 2, 3)))
    assert 0.15 < float((ratio - 1).abs().max()) <= 0.2 + 1e-6


@pytest.mark.parametrize("field", ["degrees", "zoom", "shift", "gain"])
def test_negative_strengths_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Augmentation.model_validate({field: -0.1})


REMAPPED = NOTHING.model_copy(update={"remap": 1.0})
STRIPPED = NOTHING.model_copy(update={"strip": 1.0})


def disc(side: int, radius: float, *, hole: float = 0.0) -> Tensor:
    """A bright disc in the middle of air, with a dark disc inside it; radii in pixels."""
    place = torch.arange(side) + 0.5 - side / 2
    distance = (place[:, None] ** 2 + place[None, :] ** 2).sqrt()
    return ((distance < radius) & (distance >= hole)).float()[None, None]


def test_remapped_values_follow_one_curve_per_image_that_keeps_air() -> None:
    images = textures(20, 16) * (textures(20, 16) > 0.2)
    result = REMAPPED.apply(images, 16, generator())
    assert bool((result[images == 0] == 0).all())
    assert float(result.min()) >= 0
    assert float(result.max()) <= 1
    curves = [result[i, 0].flatten()[images[i, 0].flatten().argsort()].diff() for i in range(20)]
    falls = sum(bool((curve < -1e-6).any()) for curve in curves)
    assert 5 < falls < 20  # 5 of 6 orders of three random knots fall somewhere


def test_a_remapped_value_depends_on_the_value_alone() -> None:
    images = textures(3, 16)
    mirrored = REMAPPED.apply(images.flip(-1), 16, generator())
    torch.testing.assert_close(mirrored, REMAPPED.apply(images, 16, generator()).flip(-1))


def test_about_the_wanted_share_is_remapped_and_the_rest_kept() -> None:
    images = textures(400, 8)
    result = NOTHING.model_copy(update={"remap": 0.3}).apply(images, 8, generator())
    changed = (result != images).flatten(1).any(1)
    assert 80 < int(changed.sum()) < 160


def test_stripping_takes_a_rim_of_the_object_and_keeps_the_rest() -> None:
    image = disc(128, 50)
    result = STRIPPED.apply(image.expand(40, 1, 128, 128), 128, generator())
    assert bool(((result == 0) | (result == image)).all())
    assert bool((result[..., 58:70, 58:70] == 1).all())
    radii = (result.sum((1, 2, 3)) / math.pi).sqrt()
    assert 40 < float(radii.min()) < 44
    assert 48 < float(radii.max()) < 51


def test_a_dark_hole_within_the_object_opens_no_rim() -> None:
    image = disc(128, 50, hole=20)
    result = STRIPPED.apply(image.expand(10, 1, 128, 128), 128, generator())
    middle = (disc(128, 35) > 0).expand_as(result)
    assert torch.equal(result[middle], image.expand_as(result)[middle])


def test_air_is_not_stripped_into_something() -> None:
    assert torch.equal(STRIPPED.apply(torch.zeros(2, 1, 32, 32), 32, generator()), torch.zeros(2, 1, 32, 32))
