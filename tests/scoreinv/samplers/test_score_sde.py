"""Score SDE against exact posteriors, and how its steps differ from those of Algorithm 1."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import PredictorCorrector, ScoreSDE
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.predictor_corrector import correct
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

N = 400
MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
GRID = SigmaGrid(n_levels=150, sigma_max=10.0, sigma_min=0.005, spacing="geometric")
each_modality = pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured", "variance_measured", "variance_unmeasured"),
    [
        (MRI, stationary_prior(), 0.03, 0.03, 0.99, 1.00),
        (MRI, varying_prior(), 0.03, 0.03, 0.95, 0.88),
        (CT, stationary_prior(), 0.05, 0.22, 1.24, 1.14),
        (CT, varying_prior(), 0.10, 0.14, 1.19, 1.04),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_score_sde_is_near_the_posterior(
    measurement, prior, mean_measured, mean_unmeasured, variance_measured, variance_unmeasured
):
    """Off where the data tell of coarse structure only through the prior: too early they are taken at face value.

    In CT 0.005, the last level, is above the deviation of what is measured best.
    """
    errors = compare(ScoreSDE(grid=GRID), measurement.operator(SIZE), prior, noise_std=0.02, n=N)
    assert errors.mean_measured < mean_measured + 2 * errors.monte_carlo
    assert errors.mean_unmeasured < mean_unmeasured + 2 * errors.monte_carlo
    assert errors.variance_measured == pytest.approx(variance_measured, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(variance_unmeasured, abs=0.1)


def test_data_without_information_leave_algorithm_1():
    """Its samples are those of the prior, drawn by the same steps; y_t takes draws of its own."""
    n, prior = 1000, stationary_prior()
    problem = InverseProblem(MRI.operator(SIZE), torch.zeros(n, 1, SIZE, SIZE, dtype=torch.complex64), noise_std=1e6)
    pair = (ScoreSDE(grid=GRID, snr=0.16), PredictorCorrector(grid=GRID, snr=0.16))
    ours, theirs = (reconstruct(m, problem, prior, noise=BatchNoise(n)).x.double().flatten(1) for m in pair)
    assert float((ours.mean(0) - theirs.mean(0)).square().mean().sqrt()) < 2 * float(theirs.std(0).mean()) * n**-0.5
    # A variance of n draws scatters by sqrt(2 / n) = 0.045, pixels hang together.
    assert float(ours.var(0).mean() / theirs.var(0).mean()) == pytest.approx(1.0, abs=0.1)


class CountedNoise(BatchNoise):
    """Noise that counts its draws."""

    n_draws = 0

    def normal(self, shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
        self.n_draws += 1
        return super().normal(shape, device=device)


@pytest.mark.parametrize(("snr", "n_steps"), [(0.0, 1), (0.2, 2)])
def test_corrector_and_predictor_each_draw_noise_of_the_data_and_of_the_step(snr: float, n_steps: int):
    method = ScoreSDE(grid=GRID.model_copy(update={"n_levels": 3}), snr=snr)
    problem = InverseProblem(MRI.operator(SIZE), torch.zeros(1, 1, SIZE, SIZE, dtype=torch.complex64))
    noise = CountedNoise(1)
    reconstruct(method, problem, stationary_prior(), noise=noise)
    assert noise.n_draws == 1 + 3 * n_steps * 2


@each_modality
@pytest.mark.parametrize("snr", [0.0, 0.6])
@pytest.mark.parametrize("rate", [1e-3, 100.0])
def test_few_levels_and_any_rate_are_stable(measurement, snr: float, rate: float):
    """Explicit steps of the smaller rate would multiply an error by up to 1e6 at every one."""
    grid = SigmaGrid(n_levels=5, sigma_max=1.0, sigma_min=0.01, spacing="geometric")
    operator, prior = measurement.operator(SIZE), stationary_prior()
    truth = prior.sample(BatchNoise(2, seed=3).normal((1, SIZE, SIZE)).double()).float()
    problem = InverseProblem(operator, operator.forward(truth))
    x = reconstruct(ScoreSDE(grid=grid, rate=rate, snr=snr), problem, prior, noise=BatchNoise(2)).x
    assert float((x - truth).abs().max()) < 3


def test_the_corrector_goes_no_further_than_allowed():
    """Where the score vanishes the step from its norm would have no bound."""
    x, sigma, longest = torch.zeros(500, 1, 4, 4), torch.tensor(2.0), torch.tensor(0.5)
    moved = correct(lambda x, s: x, x, sigma, BatchNoise(500), snr=0.16, longest=longest)
    assert float(moved.var()) == pytest.approx(2 * 0.5, rel=0.05)


@each_modality
def test_the_final_step_removes_the_noise(measurement):
    """Without the Tweedie step noise of sigma_min = 0.05 would stay."""
    operator = measurement.operator(16)
    flat = GaussianDenoiser(torch.full((16, 16), 0.5, dtype=torch.float64), 1e-10 * torch.eye(256, dtype=torch.float64))
    y = operator.forward(torch.full((1, 1, 16, 16), 0.5))
    levels = SigmaGrid(n_levels=20, sigma_max=5, sigma_min=0.05, spacing="geometric")
    *_, before, last = ScoreSDE(grid=levels).steps(InverseProblem(operator, y), flat, BatchNoise(1))
    assert float((before.x - 0.5).std()) > 0.02
    assert float((last.x - 0.5).std()) < 0.003
