"""DiffPIR against exact posteriors, with the errors it is known to make."""

import pytest
import torch

from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import DiffPIR
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

N = 400
MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured"),
    [
        (MRI, stationary_prior(), 0.06, 0.04),
        (MRI, varying_prior(), 0.17, 0.05),
        (CT, stationary_prior(), 0.05, 0.18),
        (CT, varying_prior(), 0.09, 0.14),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_diffpir_finds_the_posterior_mean_and_most_of_its_variance(measurement, prior, mean_measured, mean_unmeasured):
    """The mean is right to 0.25 deviations; the variance is 0.4 to 0.8 of the exact one in measured directions."""
    errors = compare(DiffPIR(), measurement.operator(SIZE), prior, noise_std=0.02, n=N)
    assert errors.mean_measured < mean_measured + 0.06
    assert errors.mean_unmeasured < mean_unmeasured + 0.06
    assert 0.3 < errors.variance_measured < 0.9
    assert 0.5 < errors.variance_unmeasured < 1.0


def test_a_heavy_prior_pulls_the_result_from_the_data():
    """The paper's strength of 7 on data of known noise: 0.7 deviations off where there are data, not elsewhere."""
    errors = compare(DiffPIR(strength=7.0), MRI.operator(SIZE), stationary_prior(), noise_std=0.02, n=N)
    assert errors.mean_measured == pytest.approx(0.69, abs=0.12)
    assert errors.mean_unmeasured < 0.12


def test_with_fresh_noise_alone_it_spreads_half_as_much():
    errors = compare(DiffPIR(renoise=Renoise(eta=1.0)), MRI.operator(SIZE), stationary_prior(), noise_std=0.02, n=N)
    assert errors.variance_unmeasured == pytest.approx(0.5, abs=0.08)


def test_the_noise_is_taken_from_the_consistent_image():
    """Two levels without fresh noise, done by hand with a dense solve."""
    operator, prior = CT.operator(SIZE), stationary_prior()
    truth = prior.sample(BatchNoise(1).normal(operator.image_shape)).float()
    problem = InverseProblem(operator, operator.forward(truth), 0.3)
    levels = SigmaGrid(n_levels=2, sigma_max=1.0, sigma_min=0.1)
    method = DiffPIR(grid=levels, renoise=Renoise(eta=0.0), strength=3.0, n_cg=100)
    matrix = operator.forward(torch.eye(SIZE**2).view(-1, 1, SIZE, SIZE)).flatten(1).T.double()
    x = (operator.direct(problem.y) + BatchNoise(1).normal(operator.image_shape)).double()
    for sigma, sigma_next in ((1.0, 0.1), (0.1, 0.0)):
        rho = 3.0 * 0.3**2 / sigma**2
        right = matrix.T @ problem.y.double().flatten() + rho * prior(x, torch.tensor([sigma])).flatten()
        normal = matrix.T @ matrix + rho * torch.eye(SIZE**2, dtype=torch.float64)
        z = torch.linalg.solve(normal, right).view(x.shape)
        x = z + sigma_next * (x - z) / sigma
    result = reconstruct(method, problem, prior, noise=BatchNoise(1)).x
    torch.testing.assert_close(result, x.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("floor", [1e-4, 3e-3])
def test_noiseless_data_are_met_to_the_noise_floor(floor: float):
    operator, prior = MRI.operator(16), stationary_prior(16)
    y = operator.forward(prior.sample(BatchNoise(2).normal((1, 16, 16)).double()).float())
    x = reconstruct(DiffPIR(data_floor=floor), InverseProblem(operator, y), prior, noise=BatchNoise(2)).x
    assert float((operator.forward(x) - y).abs().max()) < 3 * floor
