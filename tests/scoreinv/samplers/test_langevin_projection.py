"""Annealed Langevin dynamics with the projection, against exact posteriors with the error that it makes."""

import pytest
import torch
from torch import Tensor

from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import LangevinProjection
from scoreinv.samplers.grid import SigmaGrid
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

N = 400
MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
GRID = SigmaGrid(n_levels=150, sigma_max=10.0, sigma_min=0.005, spacing="geometric")
SHORT = SigmaGrid(n_levels=20, sigma_max=3.0, sigma_min=0.02, spacing="geometric")
each_modality = pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured", "variance_measured", "variance_unmeasured"),
    [
        (MRI, stationary_prior(), 0.16, 0.03, 0.00, 1.08),
        (MRI, varying_prior(), 0.88, 0.07, 0.00, 0.92),
        (CT, stationary_prior(), 0.23, 0.27, 0.27, 1.27),
        (CT, varying_prior(), 0.30, 0.17, 0.26, 1.10),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_unmeasured_directions_are_near_the_posterior_and_measured_ones_follow_noisy_data(
    measurement, prior, mean_measured, mean_unmeasured, variance_measured, variance_unmeasured
):
    """With strength 1 the data replace what is measured, noise and all: hardly any spread, and the noise as error."""
    errors = compare(LangevinProjection(grid=GRID), measurement.operator(SIZE), prior, noise_std=0.02, n=N)
    assert errors.mean_measured == pytest.approx(mean_measured, abs=0.1)
    assert errors.mean_unmeasured < mean_unmeasured + 2 * errors.monte_carlo
    assert errors.variance_measured == pytest.approx(variance_measured, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(variance_unmeasured, abs=0.12)


def problem(operator: LinearOperator, n: int = 4) -> tuple[InverseProblem, Tensor]:
    truth = stationary_prior().sample(BatchNoise(n, seed=3).normal((1, SIZE, SIZE)).double()).float()
    return InverseProblem(operator, operator.forward(truth)), truth


def test_noiseless_mri_data_are_met_exactly_at_strength_1():
    case, _ = problem(MRI.operator(SIZE))
    x = reconstruct(LangevinProjection(grid=SHORT), case, stationary_prior(), noise=BatchNoise(4)).x
    assert float(case.residual(x).abs().max()) < 1e-4


def test_the_final_projection_has_the_strength_of_the_others():
    """Of the residual after the Tweedie step 1 - strength stays; Algorithm 2 leaves nothing."""
    case, _ = problem(MRI.operator(SIZE))
    prior, method = stationary_prior(), LangevinProjection(grid=SHORT, strength=0.75)
    *_, before, last = method.steps(case, prior, BatchNoise(4))
    residual = case.residual(prior(before.x, torch.full((4,), 0.02)))
    torch.testing.assert_close(case.residual(last.x), 0.25 * residual, rtol=1e-3, atol=1e-4)


@each_modality
def test_strength_0_ignores_the_data(measurement):
    case, _ = problem(measurement.operator(SIZE))
    other = InverseProblem(case.operator, case.y.flip(0))
    start = LangevinProjection(grid=SHORT, strength=0.0)
    pair = [reconstruct(start, p, stationary_prior(), noise=BatchNoise(4)).x for p in (case, other)]
    full = [
        reconstruct(start.model_copy(update={"strength": 1.0}), p, stationary_prior(), noise=BatchNoise(4)).x
        for p in (case, other)
    ]
    # The start still is an image of the data, under noise of three times the images' range.
    assert float((pair[0] - pair[1]).std()) < 0.25 * float((full[0] - full[1]).std())


def test_the_fourier_slice_transform_reconstructs_ct():
    case, truth = problem(SparseViewCT(n_views=7, n_full=12).operator(SIZE))
    method = LangevinProjection(grid=GRID.model_copy(update={"n_levels": 60}), transform="fourier_slice")
    x = reconstruct(method, case, stationary_prior(), noise=BatchNoise(4)).x
    direct = case.operator.direct(case.y)
    assert float((x - truth).square().mean()) < 0.75 * float((direct - truth).square().mean())


def test_an_operator_without_a_transform_is_refused():
    class Blur(LinearOperator):
        image_shape = (1, SIZE, SIZE)
        data_shape = (1, SIZE, SIZE)

        def forward(self, x: Tensor) -> Tensor:
            return (x + x.roll(1, -1)) / 2

    case, _ = problem(Blur())
    with pytest.raises(TypeError, match="Blur has none: use DDS"):
        reconstruct(LangevinProjection(grid=SHORT), case, stationary_prior(), noise=BatchNoise(4))
