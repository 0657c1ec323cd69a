"""The loss is denoising score matching, and its optimum is the exact denoiser."""

import pytest
import torch
from torch import Tensor

from scoreinv.denoiser import GaussianDenoiser, score
from scoreinv.sde import VE
from scoreinv.training.levels import LogNormalLevels, SDELevels
from scoreinv.training.loss import denoising_curve, denoising_loss

SIDE = 4


def prior() -> GaussianDenoiser:
    root = torch.randn(SIDE**2, SIDE**2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / SIDE
    mean = torch.linspace(-1, 1, SIDE**2, dtype=torch.float64).view(SIDE, SIDE)
    return GaussianDenoiser(mean, root @ root.T)


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 1, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_with_weight_one_over_sigma_squared_it_is_score_matching() -> None:
    images, noise, sigma = normal(6, 1), normal(6, 2), torch.logspace(-2, 1, 6, dtype=torch.float64)
    noisy = images + sigma.view(-1, 1, 1, 1) * noise
    expected = (sigma.view(-1, 1, 1, 1) * score(prior(), noisy, sigma) + noise).square().mean((1, 2, 3))
    torch.testing.assert_close(denoising_loss(prior(), images, sigma, noise, SDELevels(sde=VE())), expected)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_at_the_optimum_it_is_the_posterior_variance(sigma: float) -> None:
    n, exact = 20_000, prior()
    variances = torch.linalg.eigvalsh(exact.covariance)
    levels = LogNormalLevels(sigma_data=0.5)
    weight = float(levels.weight(torch.tensor(sigma)))
    expected = weight * float((variances * sigma**2 / (variances + sigma**2)).mean())
    losses = denoising_loss(exact, exact.sample(normal(n, 3)), torch.full((n,), sigma), normal(n, 4), levels)
    assert float(losses.mean()) == pytest.approx(expected, abs=4 * float(losses.std()) / n**0.5)


@pytest.mark.parametrize("factor", [0.9, 0.97, 1.03, 1.1])
def test_any_change_of_the_shrinkage_raises_it(factor: float) -> None:
    n, exact = 2_000, prior()
    images, noise, sigma = exact.sample(normal(n, 5)), normal(n, 6), torch.full((n,), 0.7)

    def changed(x: Tensor, sigma: Tensor) -> Tensor:
        return exact.mean + factor * (exact(x, sigma) - exact.mean)

    best = denoising_loss(exact, images, sigma, noise, LogNormalLevels()).mean()
    assert float(denoising_loss(changed, images, sigma, noise, LogNormalLevels()).mean()) > float(best)


def test_the_curve_is_the_square_root_of_the_unweighted_loss_at_each_level() -> None:
    images, sigmas = normal(11, 7), torch.tensor([0.2, 1.5])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    expected = [
        denoising_loss(prior(), images, torch.full((11,), float(s)), noise, SDELevels(sde=VE())).mean() * s**2
        for s in sigmas
    ]
    torch.testing.assert_close(denoising_curve(prior(), images, sigmas), torch.stack(expected).sqrt().float())


def test_the_curve_uses_the_same_noise_at_every_call() -> None:
    images, sigmas = normal(5, 8), torch.tensor([0.2, 1.5])
    first = denoising_curve(prior(), images, sigmas)
    assert torch.equal(first, denoising_curve(prior(), images, sigmas))
    assert not torch.equal(first, denoising_curve(prior(), images, sigmas, seed=1))
