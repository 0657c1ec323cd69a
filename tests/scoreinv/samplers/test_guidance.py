import pytest
import torch

from scoreinv.denoiser import EDMPreconditioning, ScoreModel
from scoreinv.samplers.guidance import denoise
from scoreinv.training.checkpoint import build_model
from tests.cases import NETWORKS
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, varying_prior


@torch.no_grad()
def test_the_pullback_of_a_gaussian_prior_is_the_transpose_of_its_known_jacobian():
    prior, sigma = varying_prior(), torch.full((3, 1, 1, 1), 0.3)
    x, v = (BatchNoise(3, seed=seed).normal((1, SIZE, SIZE)).double() for seed in (0, 1))
    denoised, pullback = denoise(prior, x, sigma)
    covariance = prior.covariance
    jacobian = covariance @ torch.linalg.inv(covariance + 0.3**2 * torch.eye(SIZE * SIZE))
    torch.testing.assert_close(denoised, prior(x, sigma.flatten()))
    torch.testing.assert_close(pullback(v).flatten(1), v.flatten(1) @ jacobian, rtol=1e-5, atol=1e-6)


def waking_network() -> ScoreModel:
    """Untrained networks give 0; random weights give one whose Jacobian is neither simple nor symmetric."""
    model = build_model(NETWORKS["unet"], EDMPreconditioning()).eval().requires_grad_(False)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


@torch.no_grad()
def test_the_pullback_of_a_network_agrees_with_finite_differences_and_leaves_no_trace():
    model, sigma = waking_network(), torch.full((2, 1, 1, 1), 0.5)
    x, direction, v = (BatchNoise(2, seed=seed).normal((1, 16, 16)) for seed in (0, 1, 2))
    denoised, pullback = denoise(model, x, sigma)
    gradient = pullback(v)
    step = 1e-2
    moved = [model(x + s * step * direction, sigma.flatten()) for s in (1, -1)]
    slope = ((moved[0] - moved[1]) / (2 * step) * v).sum()
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=0.02)
    assert float((gradient - v).norm() / v.norm()) > 0.1
    assert not denoised.requires_grad
    assert not gradient.requires_grad
    assert not x.requires_grad
    assert all(weight.grad is None for weight in model.parameters())
