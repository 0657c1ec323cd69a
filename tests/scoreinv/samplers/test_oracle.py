"""Samplers against exact posteriors, direction by direction (pitfalls 8 to 13 of the method).

An approximate method has its own stated error here: the numbers are what it does, with a margin for the
Monte Carlo error, so that a change for the worse (or an unexplained one for the better) fails.
"""

import pytest
import torch
from torch import Tensor

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import MaskedTransform
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.samplers import DDS, PredictorCorrector, Projection
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.predictor_corrector import correct
from scoreinv.samplers.renoise import Renoise
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

N = 800
MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)


def grid(n_levels: int, *, sigma_max: float = 10.0) -> SigmaGrid:
    return SigmaGrid(n_levels=n_levels, sigma_max=sigma_max, sigma_min=0.005, spacing="geometric")


def test_algorithm_1_samples_the_prior_direction_by_direction():
    prior = stationary_prior()
    problem = InverseProblem(MRI.operator(SIZE), torch.zeros(2000, 1, SIZE, SIZE, dtype=torch.complex64))
    result = reconstruct(PredictorCorrector(grid=grid(300), snr=0.0), problem, prior, noise=BatchNoise(2000))
    variances, basis = torch.linalg.eigh(prior.covariance)
    coordinates = (result.x.double().flatten(1) - 0.5) @ basis
    ratio = coordinates.var(0) / variances
    # 2000 samples: the ratio of one direction scatters by sqrt(2 / 2000) = 0.03.
    assert ratio.min() > 0.85
    assert ratio.max() < 1.15
    assert abs(float(ratio.mean()) - 1) < 0.03
    assert float((coordinates.mean(0) / variances.sqrt()).abs().max()) < 0.1


@pytest.mark.parametrize("snr", [0.0, 0.1])
def test_algorithm_2_is_exact_for_a_stationary_prior_in_mri(snr: float):
    """T diagonalises the prior's covariance: unmeasured frequencies keep the prior, measured ones the data."""
    errors = compare(
        Projection(grid=grid(300), strength=1.0, snr=snr), MRI.operator(SIZE), stationary_prior(), noise_std=0.02, n=N
    )
    assert errors.mean_unmeasured < 2 * errors.monte_carlo
    # The corrector's step fits the image as a whole and is too long for its weak directions: 13 % too much variance.
    assert errors.variance_unmeasured == pytest.approx(1.03 if snr == 0 else 1.13, abs=0.06)
    # The final projection with strength 1 replaces the data, noise and all.
    assert errors.variance_measured < 1e-3


def test_algorithm_2_has_its_documented_bias_for_a_varying_prior():
    errors = compare(
        Projection(grid=grid(200), strength=0.9, snr=0.16), CT.operator(SIZE), varying_prior(), noise_std=0.02, n=N
    )
    assert errors.mean_measured == pytest.approx(0.26, abs=0.1)
    assert errors.mean_unmeasured == pytest.approx(0.18, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(1.02, abs=0.1)


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured"),
    [
        (MRI, stationary_prior(), 0.03, 0.03),
        (MRI, varying_prior(), 0.09, 0.03),
        (CT, stationary_prior(), 0.03, 0.16),
        (CT, varying_prior(), 0.06, 0.08),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_dds_finds_the_posterior_mean_and_half_its_variance(measurement, prior, mean_measured, mean_unmeasured):
    """With eta = 1 and 200 levels. The mean is right; the variance of the samples is 0.3 to 0.55 of the exact one."""
    method = DDS(grid=SigmaGrid(n_levels=200))
    errors = compare(method, measurement.operator(SIZE), prior, noise_std=0.02, n=N)
    assert errors.mean_measured < mean_measured + 0.06
    assert errors.mean_unmeasured < mean_unmeasured + 0.06
    assert 0.25 < errors.variance_measured < 0.55
    assert 0.35 < errors.variance_unmeasured < 0.6


def test_a_low_temperature_keeps_the_mean_of_dds_and_takes_its_spread():
    """On Gaussian images, where the network is linear, the deviations from the mean shrink with the temperature."""
    errors = [
        compare(
            DDS(grid=SigmaGrid(n_levels=100), renoise=Renoise(temperature=temperature)),
            CT.operator(SIZE),
            varying_prior(),
            noise_std=0.02,
            n=N,
        )
        for temperature in (1.0, 0.5)
    ]
    assert errors[1].mean_measured < 0.12
    assert errors[1].mean_unmeasured < 0.14
    assert errors[1].variance_measured / errors[0].variance_measured == pytest.approx(0.25, abs=0.02)
    assert errors[1].variance_unmeasured / errors[0].variance_unmeasured == pytest.approx(0.25, abs=0.02)


def test_deterministic_dds_has_no_spread_where_there_are_data():
    method = DDS(grid=SigmaGrid(n_levels=50, sigma_max=1.0, sigma_min=0.01), renoise=Renoise(eta=0.0))
    errors = compare(method, MRI.operator(SIZE), stationary_prior(), noise_std=0.02, n=N)
    assert errors.variance_measured < 0.01
    assert errors.variance_unmeasured == pytest.approx(0.94, abs=0.1)


class FirstOfEachPair(MaskedTransform):
    """Many independent pairs of unknowns, one in each row, of which the first is measured: T is the identity."""

    def __init__(self, n_pairs: int) -> None:
        self.image_shape = (1, n_pairs, 2)
        self.data_shape = (1, n_pairs, 2)
        self.mask = torch.tensor([1.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask

    def correct(self, residual: Tensor) -> Tensor:
        return residual * self.mask


@pytest.mark.parametrize(
    ("correlation", "snr", "mean", "variance"),
    [
        (0.0, 0.0, 0.0, 1.019),
        (0.5, 0.0, 0.403, 0.841),
        (0.9, 0.0, 0.939, 0.318),
        (0.0, 0.3, 0.007, 1.040),
        (0.5, 0.3, 0.749, 0.779),
        (0.9, 0.3, 1.350, 0.206),
    ],
)
def test_algorithm_2_on_pairs_of_unknowns_gives_the_documented_table(correlation, snr, mean, variance):
    """Without a corrector a third of what the measured entry tells of the other is lost; one corrector repairs it.

    An image holds 100 pairs, because the corrector's step comes from the norms of a whole image.
    """
    n_pairs, n = 100, 200
    pair = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    prior = GaussianDenoiser(torch.zeros(n_pairs, 2, dtype=torch.float64), torch.block_diag(*[pair] * n_pairs))
    problem = InverseProblem(FirstOfEachPair(n_pairs), torch.tensor([1.5, 0.0]).expand(n, 1, n_pairs, 2))
    levels = SigmaGrid(n_levels=200, sigma_max=20, sigma_min=0.01, spacing="geometric")
    method = Projection(grid=levels, strength=1.0, snr=snr)
    second = reconstruct(method, problem, prior, noise=BatchNoise(n)).x[..., 1].double()
    assert float(second.mean()) == pytest.approx(mean, abs=0.03)
    assert float(second.var()) == pytest.approx(variance, abs=0.05)


def test_noise_of_the_data_is_noise_of_the_image_pushed_through_the_operator():
    """y_t - y = sigma A n: correlated along the detector like A n, not white, and of mean 0."""
    operator = CT.operator(SIZE)
    n = 4000
    noise = operator.forward(BatchNoise(n).normal(operator.image_shape)).flatten(1).double()
    matrix = operator.forward(torch.eye(SIZE * SIZE).view(-1, 1, SIZE, SIZE)).flatten(1).double()
    exact = matrix.T @ matrix
    sampled = noise.T @ noise / n
    assert float((sampled - exact).norm() / exact.norm()) < 0.1
    assert float((exact - exact.diagonal().diag()).norm() / exact.norm()) > 0.5

    class Recorder(type(operator)):  # type: ignore[misc]
        residuals: list[Tensor] = []

        def correct(self, residual: Tensor) -> Tensor:
            self.residuals.append(residual)
            return super().correct(residual)

    recorder = Recorder(operator.geometry, n_full=operator.n_full)
    y = torch.zeros(n, *operator.data_shape)
    method = Projection(grid=SigmaGrid(n_levels=1, sigma_max=2.0, sigma_min=1.0, spacing="geometric"), snr=0.0)
    reconstruct(method, InverseProblem(recorder, y), stationary_prior(), noise=BatchNoise(n))
    # The first residual is y + sigma A n - A x with x = sigma n': twice the covariance of sigma A n.
    first = recorder.residuals[0].flatten(1).double() / 2.0
    assert float((first.T @ first / n / 2 - exact).norm() / exact.norm()) < 0.1
    assert float((first.mean(0) / (2 * exact.diagonal() / n).sqrt().clamp_min(1e-9)).abs().max()) < 4.5


def test_the_corrector_takes_the_step_that_keeps_the_variance():
    """With s = -x / sigma^2 and x ~ N(0, sigma^2) the step is 2 snr^2 sigma^2, and the variance hardly changes."""
    sigma, snr, n = torch.tensor(3.0), 0.16, 2000
    noise = BatchNoise(n)
    x = sigma * noise.normal((1, 16, 16))
    moved = correct(lambda x, s: torch.zeros_like(x), x, sigma, noise, snr=snr)
    step = 2 * snr**2 * sigma**2
    kept = float((moved * x).mean() / (x * x).mean())
    assert kept == pytest.approx(float(1 - step / sigma**2), abs=0.003)
    assert float(moved.var() / x.var()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])
def test_the_final_step_removes_the_noise_and_merges_the_data(measurement):
    """Without the Tweedie step noise of sigma_min would stay; without the merge the data would not be met."""
    operator = measurement.operator(16)
    flat = GaussianDenoiser(torch.full((16, 16), 0.5, dtype=torch.float64), 1e-10 * torch.eye(256, dtype=torch.float64))
    y = operator.forward(torch.full((1, 1, 16, 16), 0.5))
    levels = SigmaGrid(n_levels=30, sigma_max=5, sigma_min=0.05, spacing="geometric")
    x = reconstruct(Projection(grid=levels, strength=1.0), InverseProblem(operator, y), flat, noise=BatchNoise(1)).x
    assert float((x - 0.5).std()) < 0.003
    if measurement is MRI:
        assert float((operator.forward(x) - y).abs().max()) < 1e-5


@pytest.mark.parametrize("method", [DDS(), Projection(grid=grid(20), strength=1.0)], ids=["dds", "projection"])
def test_noiseless_mri_data_are_met_exactly(method: Method):
    operator = MRI.operator(16)
    truth = stationary_prior(16).sample(BatchNoise(2).normal((1, 16, 16)).double()).float()
    y = operator.forward(truth)
    x = reconstruct(method, InverseProblem(operator, y), stationary_prior(16), noise=BatchNoise(2)).x
    assert float((operator.forward(x) - y).abs().max()) < 1e-3
