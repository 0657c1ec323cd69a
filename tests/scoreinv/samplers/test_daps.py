"""DAPS against exact posteriors: mean, variance and coverage are right within Monte Carlo error."""

import pytest
import torch

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.metrics.posterior import coverage
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import DAPS
from scoreinv.samplers.daps import flow
from scoreinv.samplers.data_step import flow_std
from scoreinv.samplers.grid import SigmaGrid
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

N = 400
NOISE_STD = 0.02
MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
each_problem = pytest.mark.parametrize(
    ("measurement", "prior"),
    [(MRI, stationary_prior()), (MRI, varying_prior()), (CT, stationary_prior()), (CT, varying_prior())],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)


def grid(n_levels: int) -> SigmaGrid:
    return SigmaGrid(n_levels=n_levels, sigma_max=1.0, sigma_min=0.01)


@each_problem
def test_daps_samples_the_posterior(measurement, prior):
    """Within Monte Carlo error, 0.05 for a mean of 400 samples and about 0.02 for a mean ratio of variances.

    A mean error of 0.06 comes on top where the prior varies over the image: its weakest directions have a
    deviation of 0.01, which is sigma_min.
    """
    errors = compare(DAPS(grid=grid(60)), measurement.operator(SIZE), prior, noise_std=NOISE_STD, n=N)
    assert errors.mean_measured < 0.06 + 1.5 * errors.monte_carlo
    assert errors.mean_unmeasured < 0.06 + 1.5 * errors.monte_carlo
    assert errors.variance_measured == pytest.approx(1.0, abs=0.08)
    assert errors.variance_unmeasured == pytest.approx(1.0, abs=0.12)


@each_problem
def test_the_published_split_spreads_too_much(measurement, prior):
    """r = sigma around the flow's end counts the spread of x0 twice; where the data are sharp it does not matter."""
    method = DAPS(grid=grid(60), split="published")
    errors = compare(method, measurement.operator(SIZE), prior, noise_std=NOISE_STD, n=N)
    assert 1.35 < errors.variance_unmeasured < 2.9
    assert errors.variance_measured == pytest.approx(1.08, abs=0.2)


@pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])
def test_90_percent_intervals_cover_90_percent(measurement):
    """40 truths, each measured, with 16 samples each; the 2560 pixels are correlated, about 800 of them count."""
    prior, operator, n_truths, n_samples = varying_prior(), measurement.operator(SIZE), 40, 16
    truth = prior.sample(BatchNoise(n_truths, seed=3).normal(operator.image_shape)).float()
    clean = operator.forward(truth)
    y = clean + NOISE_STD * BatchNoise(n_truths, seed=5).normal_like(clean)
    problem = InverseProblem(operator, y.repeat(n_samples, *[1] * (y.ndim - 1)), NOISE_STD)
    x = reconstruct(DAPS(grid=grid(50)), problem, prior, noise=BatchNoise(len(problem.y))).x
    samples = x.view(n_samples, *truth.shape)
    for interval in ("gaussian", "quantile"):
        (share,) = coverage(samples, truth, levels=[0.8], interval=interval)
        assert float(share.mean()) == pytest.approx(0.8, abs=0.04)
    (share,) = coverage(samples, truth, levels=[0.9], interval="gaussian")
    assert 0.87 < float(share.mean()) < 0.93


def test_the_level_s_split_leaves_every_gaussian_posterior_as_it_is():
    """The docstring's identity in numbers: with R = C (1 - H) for r^2 a level keeps mean and covariance."""
    prior, sigma, identity = varying_prior(), 0.3, torch.eye(SIZE**2, dtype=torch.float64)
    c = prior.covariance
    matrix = torch.randn(20, SIZE**2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = matrix @ torch.rand(SIZE**2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, covariance = prior.posterior(matrix, y, 0.1)
    values, basis = torch.linalg.eigh(c)
    h = basis * (values / (values + sigma**2)).sqrt() @ basis.T
    r = c @ (identity - h)
    gain = torch.linalg.solve(matrix @ r @ matrix.T + 0.01 * torch.eye(20), matrix @ r).T
    keep = identity - gain @ matrix
    centre = prior.mean.flatten()
    assert torch.allclose(keep @ (centre + h @ (mean - centre)) + gain @ y, mean, atol=1e-9)
    spread = keep @ h @ (covariance + sigma**2 * identity) @ h @ keep.T + 0.01 * gain @ gain.T
    assert torch.allclose(spread, covariance, atol=1e-9)


@pytest.mark.parametrize(("n_steps", "smallest", "tolerance"), [(1, 1.0, 0.02), (2, 0.1, 0.05), (4, 0.01, 0.06)])
def test_the_flow_carries_noisy_images_to_the_spread_of_clean_ones(n_steps, smallest, tolerance):
    """u - mean = sqrt(c / (c + sigma^2)) (x - mean) for variances c down to a share of sigma^2."""
    sigma = 0.5
    variances = sigma**2 * torch.logspace(-2, 1, 16, dtype=torch.float64)
    prior = GaussianDenoiser(torch.zeros(4, 4, dtype=torch.float64), variances.diag())
    x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    reached = flow(prior, x, torch.full((len(x), 1, 1, 1), sigma), n_steps=n_steps).flatten()
    exact = (variances / (variances + sigma**2)).sqrt()
    kept = variances >= smallest * sigma**2 * (1 - 1e-6)
    torch.testing.assert_close(reached[kept], exact[kept], rtol=tolerance, atol=0)


def test_the_flow_s_deviation_has_its_limits():
    assert flow_std(1e-3) == pytest.approx(1e-3 / 2**0.5, rel=1e-4)
    assert flow_std(1e3) == pytest.approx(0.25, rel=1e-3)


def test_noiseless_data_are_met_to_the_noise_floor():
    operator = MRI.operator(16)
    truth = stationary_prior(16).sample(BatchNoise(2).normal((1, 16, 16)).double()).float()
    y = operator.forward(truth)
    method = DAPS(grid=grid(20))
    x = reconstruct(method, InverseProblem(operator, y), stationary_prior(16), noise=BatchNoise(2)).x
    assert float((operator.forward(x) - y).abs().max()) < 5 * method.data_floor
