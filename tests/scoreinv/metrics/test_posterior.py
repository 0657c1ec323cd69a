"""Posterior checks with exact Gaussians: truth and samples are drawn from the same distribution, or are not."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from scoreinv.metrics.posterior import (
    Ensemble,
    coverage,
    data_residual,
    ensemble_coverage,
    ensemble_spread_skill,
    spread_skill,
)
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem

SIDE = 64


def draws(n_samples: int, *, width: float = 1.0, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Samples from N(mean, width^2) and a truth from N(mean, 1), pixel by pixel."""
    generator = torch.Generator().manual_seed(0)
    mean = 3 * torch.randn(batch, 1, SIDE, SIDE, generator=generator)
    truth = mean + torch.randn(mean.shape, generator=generator)
    return mean + width * torch.randn(n_samples, *mean.shape, generator=generator), truth


def standard_error(level: float, n: int) -> float:
    return math.sqrt(level * (1 - level) / n)


@pytest.mark.parametrize("n_samples", [2, 4, 19, 64])
def test_gaussian_intervals_cover_what_they_promise(n_samples: int) -> None:
    samples, truth = draws(n_samples)
    levels = (0.5, 0.9)
    for level, share in zip(levels, coverage(samples, truth, levels=levels, interval="gaussian"), strict=True):
        assert share.shape == (2,)
        assert (share - level).abs().max() < 4 * standard_error(level, SIDE**2)


@pytest.mark.parametrize(("n_samples", "level"), [(19, 0.9), (20, 0.9), (27, 0.8), (8, 0.5), (3, 0.5)])
def test_quantile_intervals_cover_what_they_promise(n_samples: int, level: float) -> None:
    """Exact where rank = probability * (K + 1) is whole; between ranks the interpolation is nearly so."""
    samples, truth = draws(n_samples)
    (share,) = coverage(samples, truth, levels=[level], interval="quantile")
    assert (share - level).abs().max() < 4 * standard_error(level, SIDE**2) + 0.01


def test_quantile_intervals_need_no_shape() -> None:
    """Exponential draws: a Gaussian interval is wrong for them, quantiles are right."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.empty(39, 1, 1, SIDE, SIDE).exponential_(generator=generator)
    truth = torch.empty(1, 1, SIDE, SIDE).exponential_(generator=generator)
    quantile = float(coverage(samples, truth, levels=[0.8], interval="quantile"))
    gaussian = float(coverage(samples, truth, levels=[0.8], interval="gaussian"))
    assert quantile == pytest.approx(0.8, abs=4 * standard_error(0.8, SIDE**2))
    assert gaussian > 0.86


@pytest.mark.parametrize("interval", ["gaussian", "quantile"])
def test_overconfident_samples_cover_too_little(interval: str) -> None:
    samples, truth = draws(32, width=0.3)
    assert coverage(samples, truth, levels=[0.9], interval=interval).max() < 0.5


def test_samples_that_are_all_the_truth_cover_it() -> None:
    truth = torch.rand(1, 1, 8, 8)
    for interval in ("gaussian", "quantile"):
        assert float(coverage(truth.expand(19, 1, 1, 8, 8), truth, levels=[0.9], interval=interval)) == 1


def test_only_masked_pixels_count() -> None:
    samples, truth = draws(8)
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:20] = True
    spoiled = torch.where(mask, truth, 1e6)
    (inside,) = coverage(samples, spoiled, levels=[0.9], interval="gaussian", mask=mask)
    torch.testing.assert_close(
        inside, coverage(samples[..., :20, :], truth[..., :20, :], levels=[0.9], interval="gaussian")[0]
    )
    torch.testing.assert_close(
        spread_skill(samples, spoiled, mask=mask), spread_skill(samples[..., :20, :], truth[..., :20, :])
    )


@pytest.mark.parametrize("n_samples", [2, 8, 32])
def test_spread_equals_skill_for_exact_samples(n_samples: int) -> None:
    samples, truth = draws(n_samples)
    torch.testing.assert_close(spread_skill(samples, truth), torch.ones(2).double(), rtol=0, atol=0.04)


def test_spread_of_samples_that_are_too_narrow() -> None:
    """With K samples of width w the mean errs by sqrt(1 + w^2 / K)."""
    samples, truth = draws(16, width=0.5)
    expected = 0.5 * math.sqrt(17 / 16) / math.sqrt(1 + 0.25 / 16)
    torch.testing.assert_close(spread_skill(samples, truth), torch.full((2,), expected).double(), rtol=0.04, atol=0)


@pytest.mark.parametrize("acceleration", [1.0, 4.0])
def test_the_truth_explains_the_data_within_the_noise(acceleration: float) -> None:
    problem, truth = mri_problem(acceleration)
    m = 2 * int(problem.operator.forward(truth)[0].abs().gt(0).sum())
    residual = data_residual(truth, problem)
    assert residual.shape == (3,)
    assert (residual - 1).abs().max() < 4 * math.sqrt(2 / m)


def test_an_error_in_the_image_shows_in_the_residual() -> None:
    """Fully sampled and orthonormal: an error of e noise_std in every pixel adds e^2 / 2 (two real parts)."""
    problem, truth = mri_problem(1.0)
    wrong = truth + 2 * 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(data_residual(wrong, problem), torch.full((3,), 3.0).double(), rtol=0, atol=0.25)


def mri_problem(acceleration: float) -> tuple[InverseProblem, Tensor]:
    operator = CartesianMRI(acceleration=acceleration).operator(SIDE)
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(3, 1, SIDE, SIDE, generator=generator)
    clean = operator.forward(truth)
    noise = torch.view_as_complex(torch.randn(*clean.shape, 2, generator=generator))
    return InverseProblem(operator, clean + 0.05 * noise * (clean != 0), 0.05), truth


def test_noiseless_data_have_no_residual_in_units_of_noise() -> None:
    problem, truth = mri_problem(1.0)
    with pytest.raises(ValueError, match="noise_std=0"):
        data_residual(truth, InverseProblem(problem.operator, problem.y, 0.0))


def test_too_few_samples_are_refused() -> None:
    samples, truth = draws(8)
    with pytest.raises(ValueError, match="90% interval of quantiles needs 19 samples, got 8"):
        coverage(samples, truth, levels=[0.9], interval="quantile")
    with pytest.raises(ValueError, match="need 2 samples or more"):
        spread_skill(samples[:1], truth)


def test_wrong_shapes_and_levels_are_refused() -> None:
    samples, truth = draws(8)
    with pytest.raises(ValueError, match="one axis more, in front"):
        spread_skill(samples, truth[:1])
    with pytest.raises(ValueError, match="between 0 and 1, got 90"):
        coverage(samples, truth, levels=[90], interval="gaussian")


@pytest.mark.parametrize("n_samples", [2, 5, 16])
def test_mean_and_deviation_say_the_same_as_the_samples(n_samples: int) -> None:
    samples, truth = draws(n_samples, width=0.7)
    mask = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.3
    kept = Ensemble(
        torch.from_numpy(samples.numpy().mean(0)), torch.from_numpy(samples.numpy().std(0, ddof=1)), n_samples
    )
    (share,) = coverage(samples, truth, levels=[0.9], interval="gaussian", mask=mask)
    torch.testing.assert_close(ensemble_coverage(kept, truth, level=0.9, mask=mask), share, rtol=0, atol=2e-3)
    torch.testing.assert_close(
        ensemble_spread_skill(kept, truth, mask=mask), spread_skill(samples, truth, mask=mask), rtol=1e-5, atol=0
    )


def test_ensembles_that_cannot_be_judged_are_refused() -> None:
    image = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="2 samples or more"):
        ensemble_coverage(Ensemble(image, image, 1), image, level=0.9)
    with pytest.raises(ValueError, match="one shape"):
        ensemble_spread_skill(Ensemble(image, image[..., :2], 4), image)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ensemble_coverage(Ensemble(image, image, 4), image, level=90)


def test_the_residual_counts_every_ray_by_its_own_noise() -> None:
    operator = SparseViewCT(n_views=30).operator(SIDE)
    truth = torch.rand(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    clean = operator.forward(truth)
    noise_std = 0.01 + torch.rand(clean.shape, generator=torch.Generator().manual_seed(1))
    y = clean + noise_std * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    residual = data_residual(truth, InverseProblem(operator, y, noise_std))
    m = clean[0].abs().gt(0).sum()
    assert (residual - 1).abs().max() < 4 * math.sqrt(2 / m)


def test_spread_and_coverage_of_two_channels_are_those_of_twice_the_pixels() -> None:
    samples, truth = draws(8)
    both, stacked = torch.cat([samples, samples + 1], 2), torch.cat([truth, truth + 1], 1)
    for metric in (spread_skill, partial(coverage, levels=[0.9], interval="gaussian")):
        torch.testing.assert_close(metric(both, stacked), metric(samples, truth))
