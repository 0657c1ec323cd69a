import pytest
import torch

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import PiGDM
from scoreinv.samplers.data_step import proximal
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from tests.scoreinv.samplers.gaussians import (
    SIZE,
    BatchNoise,
    as_real,
    compare,
    real_matrix,
    stationary_prior,
    varying_prior,
)

MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
FLOOR = PiGDM().data_floor
GRID = SigmaGrid(n_levels=100, sigma_max=1.0, sigma_min=0.005)
each_modality = pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])


def white_prior() -> GaussianDenoiser:
    """Independent pixels: every direction is as uncertain as any other."""
    mean = torch.full((SIZE, SIZE), 0.5, dtype=torch.float64)
    return GaussianDenoiser(mean, 0.25**2 * torch.eye(SIZE * SIZE, dtype=torch.float64))


@each_modality
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_samples_are_of_the_posterior_where_one_r_fits_all_directions(measurement, eta: float):
    grid = SigmaGrid(n_levels=200, sigma_max=10.0, sigma_min=0.005)
    method = PiGDM(grid=grid, renoise=Renoise(eta=eta), n_cg=20)
    errors = compare(method, measurement.operator(SIZE), white_prior(), noise_std=0.05, n=400)
    # What steps of 4 to 9 % leave of the limit: 0.04 of a deviation, and at eta 1 some 5 % of the variance.
    assert errors.mean_measured < errors.monte_carlo + 0.08
    assert errors.mean_unmeasured < errors.monte_carlo + 0.08
    assert errors.variance_measured == pytest.approx(1.0, abs=0.12)
    assert errors.variance_unmeasured == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured", "variance_measured", "variance_unmeasured"),
    [
        (MRI, stationary_prior(), 0.09, 0.03, 0.90, 0.93),
        (MRI, varying_prior(), 0.09, 0.04, 0.78, 0.84),
        (CT, stationary_prior(), 0.06, 0.15, 0.74, 0.97),
        (CT, varying_prior(), 0.13, 0.09, 0.74, 0.91),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_pigdm_is_near_the_posterior_of_correlated_images(
    measurement, prior, mean_measured, mean_unmeasured, variance_measured, variance_unmeasured
):
    """One r for all directions is too large for fine ones, whose data it trusts too much: too little spread there."""
    errors = compare(PiGDM(grid=GRID, n_cg=15), measurement.operator(SIZE), prior, noise_std=0.02, n=400)
    # 400 samples: a mean scatters by 0.05 posterior deviations, the mean of 20 or more variances by about 0.02.
    assert errors.mean_measured == pytest.approx(mean_measured, abs=0.08)
    assert errors.mean_unmeasured == pytest.approx(mean_unmeasured, abs=0.08)
    assert errors.variance_measured == pytest.approx(variance_measured, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(variance_unmeasured, abs=0.1)


def test_the_probability_flow_remembers_a_wrong_r():
    """At eta 0 nothing forgets the errors of early levels: means are a third of a posterior deviation off."""
    errors = compare(
        PiGDM(grid=GRID, renoise=Renoise(eta=0.0)), MRI.operator(SIZE), stationary_prior(), noise_std=0.02, n=400
    )
    assert errors.mean_measured == pytest.approx(0.33, abs=0.1)
    assert errors.variance_measured == pytest.approx(0.92, abs=0.1)
    assert errors.mean_unmeasured < 2.5 * errors.monte_carlo
    assert errors.variance_unmeasured == pytest.approx(1.0, abs=0.1)


@each_modality
@pytest.mark.parametrize("noise_std", [0.0, 0.1])
def test_the_pseudo_inverse_agrees_with_a_dense_one_in_the_space_of_the_data(measurement, noise_std: float):
    operator, std = measurement.operator(SIZE), 0.2
    matrix = real_matrix(operator)
    x = varying_prior().sample(BatchNoise(2).normal((1, SIZE, SIZE)).double())
    y = operator.forward(BatchNoise(2, seed=1).normal((1, SIZE, SIZE)).double())
    problem = InverseProblem(operator, y, noise_std).with_floor(FLOOR)
    level = float(problem.noise_std[0])
    inner = matrix @ matrix.T + (level / std) ** 2 * torch.eye(len(matrix), dtype=torch.float64)
    exact = matrix.T @ torch.linalg.solve(inner, (as_real(y) - as_real(operator.forward(x))).T)
    solved = proximal(problem, operator.adjoint(y), x, std=torch.full((2, 1, 1, 1), std), n_iters=200) - x
    # Conjugate gradients stop at a residual of 1e-5, which a condition of 4400 lets grow to 0.4 % in CT.
    assert float((solved.flatten(1).T - exact).norm() / exact.norm()) < 0.01


@each_modality
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_few_levels_do_not_overshoot_where_directions_differ_much(measurement, eta: float):
    """Pixels nearly all vary together: in that direction J is 1 where it is 0.01 in all others.

    With an r guessed from sigma alone the error is 0.08 to 0.9 here.
    """
    operator, size = measurement.operator(SIZE), SIZE * SIZE
    covariance = 0.25**2 * (torch.ones(size, size) + 0.01 * torch.eye(size)).double()
    prior = GaussianDenoiser(torch.full((SIZE, SIZE), 0.5, dtype=torch.float64), covariance)
    truth = prior.sample(BatchNoise(8, seed=3).normal((1, SIZE, SIZE)).double()).float()
    problem = InverseProblem(operator, operator.forward(truth))
    method = PiGDM(grid=SigmaGrid(n_levels=4, sigma_max=3.0), renoise=Renoise(eta=eta))
    x = reconstruct(method, problem, prior, noise=BatchNoise(8)).x
    # A sample errs by at most twice the variance of what the data may leave open: each pixel's own.
    assert float((x - truth).square().mean()) < 2 * 0.01 * 0.25**2


def test_noiseless_mri_data_are_met_to_the_noise_floor():
    operator = MRI.operator(16)
    truth = stationary_prior(16).sample(BatchNoise(2).normal((1, 16, 16)).double()).float()
    y = operator.forward(truth)
    x = reconstruct(PiGDM(), InverseProblem(operator, y), stationary_prior(16), noise=BatchNoise(2)).x
    residual = (operator.forward(x) - y).abs()
    assert float(residual.max()) < 5 * FLOOR
