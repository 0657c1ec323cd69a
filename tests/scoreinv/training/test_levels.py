"""Noise levels follow the distribution that their description promises."""

import math

import pytest
import torch
from pydantic import ValidationError

from scoreinv.sde import VE, VP
from scoreinv.training.levels import LogNormalLevels, SDELevels, stratified

UNIFORM = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
QUANTILES = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)


def normal_cdf(value: float) -> float:
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def test_without_an_even_share_the_logarithm_is_normal() -> None:
    levels = LogNormalLevels(mean=-1.5, std=1.2, even_share=0.0, sigma_min=1e-6, sigma_max=1e4)
    drawn = levels.draw(UNIFORM).log()
    expected = -1.5 + 1.2 * torch.special.ndtri(QUANTILES)
    torch.testing.assert_close(drawn.quantile(QUANTILES), expected, atol=1e-3, rtol=0)


def test_an_even_share_of_one_is_log_uniform() -> None:
    levels = LogNormalLevels(even_share=1.0, sigma_min=0.01, sigma_max=10.0)
    drawn = levels.draw(UNIFORM).log10()
    torch.testing.assert_close(drawn.quantile(QUANTILES), -2 + 3 * QUANTILES, atol=1e-3, rtol=0)


@pytest.mark.parametrize("sigma", [0.03, 0.2, 1.0, 5.0])
def test_a_mixture_has_the_weighted_sum_of_both_distributions(sigma: float) -> None:
    levels = LogNormalLevels(mean=-1.8, std=1.4, even_share=0.3, sigma_min=0.005, sigma_max=40.0)
    even = math.log(sigma / 0.005) / math.log(40 / 0.005)
    expected = 0.3 * even + 0.7 * normal_cdf((math.log(sigma) + 1.8) / 1.4)
    below = (levels.draw(UNIFORM) < sigma).double().mean()
    assert float(below) == pytest.approx(expected, abs=1e-3)


def test_levels_stay_within_their_bounds() -> None:
    levels = LogNormalLevels(std=5.0, sigma_min=0.01, sigma_max=3.0)
    drawn = levels.draw(UNIFORM)
    assert float(drawn.min()) >= 0.01 * (1 - 1e-9)
    assert float(drawn.max()) <= 3.0 * (1 + 1e-9)


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="sigma_min=3.0 must be below sigma_max=1.0"):
        LogNormalLevels(sigma_min=3.0, sigma_max=1.0)


@pytest.mark.parametrize("sde", [VE(sigma_min=0.02, sigma_max=50.0), VP()])
def test_times_of_an_sde_are_uniform(sde: VE | VP) -> None:
    levels = SDELevels(sde=sde, eps=1e-3)
    times = sde.time(levels.draw(UNIFORM))
    torch.testing.assert_close(times.quantile(QUANTILES), 1e-3 + (1 - 1e-3) * QUANTILES, atol=1e-4, rtol=0)
    assert levels.sigma_min == pytest.approx(float(sde.sigma(torch.tensor(1e-3))))
    assert levels.sigma_max == pytest.approx(float(sde.sigma(torch.tensor(1.0))))


def test_weights_have_their_closed_forms() -> None:
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    expected = torch.tensor([(0.01 + 0.25) / 0.0025, (0.25 + 0.25) / 0.0625, (4 + 0.25) / 1.0], dtype=torch.float64)
    torch.testing.assert_close(LogNormalLevels(sigma_data=0.5).weight(sigma), expected)
    torch.testing.assert_close(SDELevels().weight(sigma), torch.tensor([100.0, 4.0, 0.25], dtype=torch.float64))


def test_stratified_draws_put_exactly_one_into_each_interval() -> None:
    drawn = stratified(16, torch.Generator().manual_seed(1))
    assert sorted((drawn * 16).floor().int().tolist()) == list(range(16))
    assert drawn.tolist() != sorted(drawn.tolist())


def test_a_single_stratified_draw_is_uniform() -> None:
    generator = torch.Generator().manual_seed(2)
    first = torch.stack([stratified(4, generator)[0] for _ in range(4000)])
    # Each quantile of 4000 draws deviates by less than four of its standard errors, sqrt(q (1 - q) / 4000).
    torch.testing.assert_close(first.double().quantile(QUANTILES), QUANTILES, atol=0.032, rtol=0)
