"""Renoising keeps the levels' noise, whatever share of it is fresh; ancestral steps sample the prior."""

import itertools

import pytest
import torch
from torch import Tensor

from scoreinv.noise import Noise
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Level, Renoise
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, varying_prior


def level(sigma: Tensor, sigma_next: Tensor) -> Level:
    return Level(0, float(sigma), float(sigma_next), sigma.view(1, 1, 1, 1), sigma_next.view(1, 1, 1, 1))


def ancestral(renoise: Renoise, clean: Tensor, eps: Tensor, at: Level, noise: Noise) -> Tensor:
    return renoise.step(clean, eps, at, noise, is_ancestral=True)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_steps_sample_the_prior_whatever_eta(eta: float):
    prior, noise = varying_prior(), BatchNoise(2000)
    levels = SigmaGrid(n_levels=200, sigma_max=5.0, sigma_min=0.005).levels()
    x = prior.mean + levels[0] * noise.normal((1, SIZE, SIZE)).double()
    for sigma, sigma_next in itertools.pairwise(levels):
        denoised = prior(x, sigma)
        x = ancestral(Renoise(eta=eta), denoised, (x - denoised) / sigma, level(sigma, sigma_next), noise)
    coordinates = (x.flatten(1) - prior.mean.flatten()) @ prior._basis
    strongest = slice(-20, None)
    ratio = (coordinates.var(0) / prior._variances)[strongest]
    # 2000 samples of 20 directions: the mean ratio scatters by 0.007; steps of 4 % lose 2 to 4 % more at eta 1.
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.06)
    offset = (coordinates.mean(0) / prior._variances.sqrt())[strongest]
    assert float(offset.abs().max()) < 4 / 2000**0.5


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_ddim_step_keeps_the_noise_level_of_its_sigma(eta: float):
    """With nothing but noise in x its deviation goes from sigma to sigma_next."""
    sigma, sigma_next, noise = torch.tensor(2.0), torch.tensor(1.2), BatchNoise(500)
    x = sigma * noise.normal((1, 16, 16))
    stepped = ancestral(Renoise(eta=eta), torch.zeros_like(x), x / sigma, level(sigma, sigma_next), noise)
    assert float(stepped.std()) == pytest.approx(1.2, rel=0.01)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_step_leaves_as_much_noise_as_the_temperature_says(eta: float, temperature: float):
    sigma, sigma_next, noise = torch.tensor(2.0), torch.tensor(1.2), BatchNoise(500)
    eps = noise.normal((1, 16, 16))
    stepped = Renoise(eta=eta, temperature=temperature).step(
        torch.zeros_like(eps), eps, level(sigma, sigma_next), noise
    )
    assert float(stepped.std()) == pytest.approx(1.2 * temperature, rel=0.01)
    kept = float((stepped * eps).mean() / stepped.std())
    assert kept == pytest.approx((1 - eta**2) ** 0.5, abs=0.01)


def test_below_the_last_fresh_level_all_noise_is_kept():
    sigma, sigma_next, noise = torch.tensor(2.0), torch.tensor(1.2), BatchNoise(3)
    eps = noise.normal((1, 8, 8))
    kept = Renoise(fresh_above=2.0).step(torch.zeros_like(eps), eps, level(sigma, sigma_next), noise)
    fresh = Renoise(fresh_above=1.9).step(torch.zeros_like(eps), eps, level(sigma, sigma_next), noise)
    torch.testing.assert_close(kept, 1.2 * eps)
    assert float((fresh * eps).mean().abs()) < 0.3
