"""Calibrated intervals: they cover people who were not there, in every class of values, and know what they are for."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scoreinv.baselines import Direct, TotalVariation
from scoreinv.calibration import (
    ACTIVITIES,
    ERRORS,
    GAIN,
    LEVELS,
    Calibration,
    Estimate,
    Use,
    calibrated,
    cells_of,
    counted,
    relative,
    unevenness,
)
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT

SIZE = 64
BOUNDS = (0.1, 0.4, 0.7)
IMAGE = ImageContract(modality="ct", size=SIZE, pixel_mm=4.0, low=-1000, high=1000)
USE = Use(IMAGE, TotalVariation(weight=1e-4), "", 1, SparseViewCT(n_views=23))


def person(seed: int) -> tuple[Tensor, Tensor]:
    """Reconstructions (2, 1, size, size) of blocks of every class, and their truth.

    Errors are of two tails (Laplace), grow with the value, and differ from person to person.
    """
    generator = np.random.default_rng(seed)
    values = generator.choice([0.05, 0.25, 0.55, 0.85], size=(2, 1, 8, 8)).repeat(8, 2).repeat(8, 3)
    images = values + generator.uniform(-0.04, 0.04, values.shape)
    # Spread evenly over people, so that few of them stand for all.
    scale = (0.004 + 0.05 * values) * (0.7 + 0.7 * (0.618034 * seed % 1))
    return torch.from_numpy(images).float(), torch.from_numpy(
        images + generator.laplace(size=values.shape) * scale
    ).float()


def estimated(seed: int) -> tuple[Estimate, Tensor]:
    images, truth = person(seed)
    return Estimate(images), truth


def calibration(n_people: int) -> Calibration:
    people = [counted(*estimated(seed), BOUNDS).sum(0) for seed in range(n_people)]
    table = calibrated(people)
    return Calibration(
        image=IMAGE,
        method=USE.method.model_dump(mode="json"),
        measurement=USE.measurement.model_dump(mode="json"),
        bounds=BOUNDS,
        half_widths=tuple(map(tuple, table.half_widths.tolist())),
        covered=tuple(table.covered.tolist()),
        covered_by_class=tuple(tuple(None if math.isnan(x) else x for x in row) for row in table.covered_by_class),
        n_people=n_people,
        n_slices=2 * n_people,
    )


@pytest.fixture(scope="module")
def thirty() -> Calibration:
    return calibration(30)


@pytest.mark.parametrize("level", LEVELS)
def test_people_who_were_not_there_are_covered_in_every_class(thirty: Calibration, level: float) -> None:
    shares = []
    for seed in range(100, 140):
        images, truth = person(seed)
        inside = (images - truth).abs() <= thirty.half_width(Estimate(images), level=level)
        classes = torch.bucketize(images, torch.tensor(BOUNDS))
        shares.append([float(inside[classes == place].float().mean()) for place in range(4)])
    means = np.mean(shares, 0)
    np.testing.assert_allclose(means, level, atol=0.02)
    said = np.array(thirty.covered_by_class[LEVELS.index(level)], float)
    np.testing.assert_allclose(means, said, atol=0.03)


def test_what_it_says_of_people_left_out_is_at_least_what_it_promises(thirty: Calibration) -> None:
    for level, covered in zip(thirty.levels, thirty.covered, strict=True):
        assert level <= covered <= level + 0.02


def test_errors_that_grow_get_wider_intervals(thirty: Calibration) -> None:
    flat = torch.tensor([0.05, 0.25, 0.55, 0.85]).view(4, 1, 1, 1).expand(4, 1, SIZE, SIZE)
    widths = thirty.half_width(Estimate(flat))[:, 0, 20, 20].tolist()
    assert widths == sorted(widths)
    assert widths[3] > 3 * widths[0]


def test_intervals_are_wider_where_data_say_that_the_image_lacks_something_and_as_wide_elsewhere() -> None:
    """A lesion of few pixels, which the cells know nothing of, is held; other pixels are covered as often as before."""
    lesion = torch.zeros(2, 1, SIZE, SIZE)
    lesion[..., 28:32, 28:32] = 0.5
    plain = [counted(*estimated(seed), BOUNDS).sum(0) for seed in range(30)]
    widened = calibration(30).model_copy(update={"half_widths": calibrated(plain).half_widths.tolist(), "gain": GAIN})
    images, truth = person(100)
    estimate = Estimate(images, lacks=lesion / 4)
    is_inside = (images - (truth + lesion)).abs() <= widened.half_width(estimate)
    assert is_inside[lesion > 0].all()
    assert not ((images - (truth + lesion)).abs() <= widened.half_width(Estimate(images)))[lesion > 0].any()
    assert widened.half_width(estimate)[lesion == 0].equal(widened.half_width(Estimate(images))[lesion == 0])
    of_before = widened.model_copy(update={"gain": 0.0})
    assert of_before.half_width(estimate).equal(of_before.half_width(Estimate(images)))


def test_an_error_that_its_widening_holds_counts_as_none() -> None:
    images, truth = torch.full((1, 1, 8, 8), 0.5), torch.full((1, 1, 8, 8), 0.6)
    lacks = torch.zeros_like(images)
    lacks[..., :4] = 0.2 / GAIN
    counts = counted(Estimate(images, lacks=lacks), truth, BOUNDS).sum((0, 1))
    assert counts[0] == 32
    assert counts[np.searchsorted(ERRORS, 0.1)] == 32


def test_cells_are_by_value_and_by_unevenness_or_the_spread_of_samples() -> None:
    image = torch.full((1, 1, 16, 16), 0.5)
    image[..., 8:] = 0.6
    assert float(unevenness(image)[0, 0, 3, 1]) < 1e-3
    assert float(unevenness(image)[0, 0, 3, 8]) == pytest.approx(0.05, rel=0.05)
    n = len(ACTIVITIES) + 1
    assert int(cells_of(Estimate(image), BOUNDS)[0, 0, 3, 1]) == 2 * n
    assert int(cells_of(Estimate(image), BOUNDS)[0, 0, 3, 8]) > 2 * n
    assert int(cells_of(Estimate(image, torch.full_like(image, 1.0)), BOUNDS).min()) == 3 * n - 1


def test_counts_hold_every_pixel_once_in_its_bin() -> None:
    images, truth = person(0)
    counts = counted(Estimate(images), truth, BOUNDS)
    assert counts.sum((1, 2)).tolist() == [SIZE * SIZE] * 2
    exact = counted(Estimate(images), images, BOUNDS)
    assert exact[:, :, 0].sum() == 2 * SIZE * SIZE


def test_a_cell_of_which_few_people_say_anything_takes_the_width_of_its_class() -> None:
    images, truth = person(0)
    one = counted(Estimate(images), truth, BOUNDS).sum(0)
    width = calibrated([one, one]).half_widths[1].reshape(4, -1)
    seen = one.sum(1).reshape(4, -1) > 0
    for place in range(4):
        assert len(set(width[place][~seen[place]].tolist())) == 1
    assert np.isfinite(width).all()


def test_one_person_is_no_calibration() -> None:
    with pytest.raises(UserError, match="two people or more whose truth is known, not 1"):
        calibrated([counted(*estimated(0), BOUNDS).sum(0)])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (USE._replace(image=IMAGE.model_copy(update={"size": 128})), r"other images .*size: 64 there, 128 here"),
        (USE._replace(method=Direct()), r"other method .*kind: tv there, direct here"),
        (USE._replace(method=TotalVariation(weight=1e-4, n_inner=3)), r"other method .*n_inner: 10 there, 3 here"),
        (USE._replace(prior_sha256="a"), "other weights of the prior"),
        (USE._replace(n_samples=8), r"other n_samples .*1 there, 8 here"),
        (USE._replace(measurement=LimitedAngleCT()), "for 'sparse_view_ct' data, not 'limited_angle_ct'"),
    ],
)
def test_it_says_nothing_of_other_reconstructions(thirty: Calibration, other: Use, said: str) -> None:
    assert thirty.mismatch(USE) is None
    found = thirty.mismatch(other)
    assert found is not None
    with pytest.raises(UserError, match=said):
        raise UserError(found)


def test_an_option_that_came_later_is_the_same_at_its_default_alone(thirty: Calibration) -> None:
    """A calibration from before FISTA-TV had ``noise_weight``."""
    options = {name: value for name, value in thirty.method.items() if name != "noise_weight"}
    older = thirty.model_copy(update={"method": options})
    assert older.mismatch(USE) is None
    other = older.mismatch(USE._replace(method=TotalVariation(weight=1e-4, noise_weight=2.0)))
    assert other is not None
    assert "noise_weight: 0.5 there, 2.0 here" in other


@pytest.mark.parametrize(("ours", "theirs", "is_told"), [(True, False, True), (False, True, True), (None, True, False)])
def test_data_of_another_grid_are_told(thirty: Calibration, ours: bool | None, theirs: bool, is_told: bool) -> None:
    said = thirty.model_copy(update={"is_exact": ours}).elsewhere(USE.measurement, is_exact=theirs)
    first, second = ("images on the very grid", "finer images")[:: 1 if ours else -1]
    assert bool(said) == is_told
    assert not is_told or said.index(first) < said.index(second)


def test_a_person_of_air_alone_says_nothing_of_the_body() -> None:
    people = [counted(*estimated(seed), BOUNDS).sum(0) for seed in range(6)]
    air = np.zeros_like(people[0])
    air[0, 0] = 5000
    with_air, without = calibrated([*people, air]), calibrated(people)
    np.testing.assert_allclose(with_air.covered, without.covered, atol=0.01)


def test_other_options_of_the_measurement_are_told(thirty: Calibration) -> None:
    assert thirty.elsewhere(USE.measurement, is_exact=False) == ""
    said = thirty.elsewhere(SparseViewCT(n_views=45), is_exact=False)
    assert said == "intervals were calibrated at n_views=23 but the data were measured with n_views=45"


def test_a_wrong_level_or_a_missing_deviation_is_refused(thirty: Calibration) -> None:
    images, _ = person(0)
    with pytest.raises(ValueError, match=r"not of 0.5: take one of these"):
        thirty.half_width(Estimate(images), level=0.5)
    with pytest.raises(ValueError, match="for n_samples=1"):
        thirty.half_width(Estimate(images, images))


def of_scale(seed: int, scale: float) -> tuple[Estimate, Tensor]:
    """A person whose errors are larger by a scale, which views that are left out tell, but for a tenth."""
    images, truth = person(seed)
    worse = images + (truth - images) * scale
    known = 1.3 * scale * float(np.random.default_rng(seed).uniform(0.9, 1.1))
    return Estimate(images, expected=torch.full((2,), (0.03 * known) ** 2)), worse


def scaled_calibration(n_people: int) -> Calibration:
    """Of people who are reconstructed half to twice as well."""
    people, expected = [], []
    for seed in range(n_people):
        estimate, truth = of_scale(seed, float(np.exp(np.random.default_rng(seed).uniform(-0.7, 0.7))))
        assert estimate.expected is not None
        people.append(counted(estimate, truth, BOUNDS).sum(0))
        expected.append(float(estimate.expected.mean()))
    counts, typical = relative(people, expected)
    update = {"half_widths": calibrated(counts).half_widths.tolist(), "typical": tuple(typical.tolist())}
    return calibration(n_people).model_copy(update=update)


def test_intervals_hold_on_people_whose_errors_are_larger_as_views_left_out_tell() -> None:
    scaled = scaled_calibration(30)
    for scale in (0.6, 1.0, 3.0):
        shares = []
        for seed in range(100, 120):
            estimate, truth = of_scale(seed, scale)
            shares.append(float(((estimate.images - truth).abs() <= scaled.half_width(estimate)).float().mean()))
        assert np.mean(shares) == pytest.approx(0.9, abs=0.02)
    unscaled = scaled.model_copy(update={"typical": ()})
    assert float(((estimate.images - truth).abs() <= unscaled.half_width(estimate)).float().mean()) < 0.7


def test_what_is_not_told_changes_nothing_and_what_is_missing_is_said() -> None:
    scaled = scaled_calibration(6)
    images, _ = person(50)
    for nothing in (math.nan, -1.0, 0.0):
        assert scaled.scale(Estimate(images, expected=torch.full((2,), nothing))).tolist() == [1, 1]
    assert scaled.scale(Estimate(images, expected=torch.full((2,), 1e-12))).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="takes what views that are left out expect"):
        scaled.half_width(Estimate(images))
    assert calibration(6).scale(Estimate(images)).tolist() == [1, 1]


def test_where_nothing_is_told_of_anybody_errors_stay_as_they_are() -> None:
    people = [counted(*estimated(seed), BOUNDS).sum(0) for seed in range(4)]
    counts, typical = relative(people, [math.nan] * 4)
    for before, after in zip(people, counts, strict=True):
        np.testing.assert_allclose(after, before)
    assert np.isfinite(typical).all()


def test_errors_that_are_divided_move_along_the_bins() -> None:
    counts = np.zeros((2 * (len(ACTIVITIES) + 1), len(ERRORS) + 1))
    counts[0, 0], counts[0, 50], counts[-1, 120], counts[-1, -1] = 500, 700, 1100, 200
    (shrunk, grown), _ = relative([counts, counts], [4.0, 1.0])
    assert shrunk.sum() == pytest.approx(2500)
    assert grown.sum() == pytest.approx(2500)
    for one, factor in ((shrunk, 1.5 / 2), (grown, 1.5)):
        assert (one[0, 0], one[-1, -1]) == (500, 200)
        # The median of the ratios 2 and 1 lies between.
        middle = float(np.exp((one[-1, 1:-1] @ np.log(ERRORS[1:])) / 1100)) / float(ERRORS[120])
        assert middle == pytest.approx(factor, rel=0.03)
