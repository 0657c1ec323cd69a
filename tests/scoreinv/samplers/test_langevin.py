"""Annealed Langevin dynamics against exact posteriors, and the two errors that it is known to make."""

import math

import pytest
import torch

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import Langevin
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.langevin import anneal
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

N = 400
MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
GRID = SigmaGrid(n_levels=150, sigma_max=10.0, sigma_min=0.005, spacing="geometric")
each_modality = pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_unmeasured", "variance_measured", "variance_unmeasured"),
    [
        (MRI, stationary_prior(), 0.04, 1.06, 1.14),
        (MRI, varying_prior(), 0.04, 1.02, 0.98),
        (CT, stationary_prior(), 0.11, 1.26, 1.16),
        (CT, varying_prior(), 0.09, 1.23, 1.11),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_langevin_is_near_the_posterior(measurement, prior, mean_unmeasured, variance_measured, variance_unmeasured):
    """The noise lags 10 % behind; in CT 0.005, the last level, is above the deviation of what is measured best."""
    errors = compare(Langevin(grid=GRID), measurement.operator(SIZE), prior, noise_std=0.02, n=N)
    assert errors.mean_measured < 0.06 + 2 * errors.monte_carlo
    assert errors.mean_unmeasured < mean_unmeasured + 2 * errors.monte_carlo
    assert errors.variance_measured == pytest.approx(variance_measured, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(variance_unmeasured, abs=0.1)


def test_more_levels_and_a_lower_last_one_lead_to_the_posterior():
    grid = SigmaGrid(n_levels=400, sigma_max=3.0, sigma_min=0.001, spacing="geometric")
    errors = compare(Langevin(grid=grid, n_cg=10), CT.operator(SIZE), stationary_prior(), noise_std=0.02, n=200)
    assert errors.mean_measured < 2 * errors.monte_carlo
    assert errors.mean_unmeasured < 2 * errors.monte_carlo
    assert errors.variance_measured == pytest.approx(1.0, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(1.0, abs=0.1)


def flat_prior() -> GaussianDenoiser:
    """One image only, so that x is noise around it."""
    mean = torch.full((SIZE, SIZE), 0.5, dtype=torch.float64)
    return GaussianDenoiser(mean, 1e-12 * torch.eye(SIZE * SIZE, dtype=torch.float64))


def test_the_noise_lags_behind_its_level_by_the_documented_share():
    """Here where nothing is measured: ln(sigma / sigma_next) / (2 n_steps snr^2), to first order."""
    n, snr = 200, 0.15
    method = Langevin(grid=SigmaGrid(n_levels=200, sigma_max=1.0, sigma_min=0.01, spacing="geometric"), snr=snr)
    problem = InverseProblem(MRI.operator(SIZE), torch.zeros(n, 1, SIZE, SIZE, dtype=torch.complex64), noise_std=1e6)
    *steps, _ = method.steps(problem, flat_prior(), BatchNoise(n))
    share = math.log(100) / 199 / (2 * method.n_steps * snr**2)
    # Second order in the share and in the step's own excess, snr^2; 0.013 is three times the Monte Carlo error.
    assert float(steps[-1].x.var()) / 0.01**2 - 1 == pytest.approx(share + snr**2, abs=share**2 + 0.013 + 0.02)
    assert share > 0.15


def test_a_step_has_the_length_of_its_level_alone():
    """With s = -x / sigma^2: x' = (1 - 2 snr^2) x + 2 snr sigma n, the same for every image."""
    sigma, snr, noise = torch.tensor(3.0), 0.3, BatchNoise(2000)
    x = 5 * sigma * noise.normal((1, 4, 4))
    moved = anneal(lambda x, s: torch.zeros_like(x), x, sigma, noise, snr=snr)
    assert float((moved * x).mean() / (x * x).mean()) == pytest.approx(1 - 2 * snr**2, abs=0.005)
    assert float((moved - (1 - 2 * snr**2) * x).std()) == pytest.approx(2 * snr * 3.0, rel=0.02)


@each_modality
@pytest.mark.parametrize("rate", [1e-3, 100.0])
def test_few_levels_and_any_rate_are_stable(measurement, rate: float):
    """Explicit steps of the smaller rate would multiply an error by 1e5 at every one."""
    grid = SigmaGrid(n_levels=5, sigma_max=1.0, sigma_min=0.01, spacing="geometric")
    operator, prior = measurement.operator(SIZE), stationary_prior()
    truth = prior.sample(BatchNoise(2, seed=3).normal((1, SIZE, SIZE)).double()).float()
    problem = InverseProblem(operator, operator.forward(truth))
    x = reconstruct(Langevin(grid=grid, rate=rate), problem, prior, noise=BatchNoise(2)).x
    assert float((x - truth).abs().max()) < 3


@each_modality
def test_noisier_data_count_less(measurement):
    """Data of 1e4 times the noise they have are ignored: the result is as far from them as the prior's samples."""
    operator, prior = measurement.operator(SIZE), stationary_prior()
    truth = prior.sample(BatchNoise(20, seed=3).normal((1, SIZE, SIZE)).double()).float()
    y = operator.forward(truth)
    grid = SigmaGrid(n_levels=60, sigma_max=3.0, sigma_min=0.01, spacing="geometric")

    def residual(noise_std: float) -> float:
        case = InverseProblem(operator, y, noise_std)
        return float(case.residual(reconstruct(Langevin(grid=grid), case, prior, noise=BatchNoise(20)).x).abs().mean())

    near, far = residual(0.01), residual(100.0)
    assert near < 0.1 * far
