"""RED-diff against exact posteriors: it finds the mean and has no spread."""

import pytest
import torch

from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct, run
from scoreinv.samplers import REDDiff
from scoreinv.samplers.grid import SigmaGrid
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured"),
    [
        (MRI, stationary_prior(), 0.05, 0.05),
        (MRI, varying_prior(), 0.13, 0.03),
        (CT, stationary_prior(), 0.11, 0.19),
        (CT, varying_prior(), 0.18, 0.24),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_red_diff_finds_the_posterior_mean(measurement, prior, mean_measured, mean_unmeasured):
    """To a quarter of a deviation; in CT Adam has not converged in weak directions. The spread is no posterior's.

    The floor is the noise of the CT data, relative to the norm of A.
    """
    errors = compare(REDDiff(data_floor=5e-3), measurement.operator(SIZE), prior, noise_std=0.02, n=50)
    assert errors.mean_measured < mean_measured + 0.06
    assert errors.mean_unmeasured < mean_unmeasured + 0.06
    assert errors.variance_measured < 0.3
    assert errors.variance_unmeasured < 0.3


def test_a_floor_above_the_noise_pulls_the_result_from_the_data():
    errors = compare(REDDiff(), CT.operator(SIZE), stationary_prior(), noise_std=0.02, n=20)
    assert errors.mean_measured == pytest.approx(0.58, abs=0.15)


def problem(n: int) -> InverseProblem:
    operator = CT.operator(SIZE)
    truth = stationary_prior().sample(BatchNoise(n).normal(operator.image_shape)).float()
    return InverseProblem(operator, operator.forward(truth), 0.02)


def test_it_starts_at_the_first_image_and_moves_every_pixel_by_the_rate():
    """Adam's first step has the length of the rate whatever the gradient, and its direction."""
    case, prior = problem(2), stationary_prior()
    method = REDDiff(grid=SigmaGrid(n_levels=4, sigma_max=1.0), rate=0.02)
    first = next(run(method, case, prior, noise=BatchNoise(2)))
    start = case.operator.direct(case.y)
    denoised = prior(start + BatchNoise(2).normal(case.operator.image_shape), torch.ones(2))
    weight = (0.01 * case.operator.norm()) ** 2 * (1 + 1 / 0.25**2) / case.operator.norm() ** 2
    misfit = case.operator.adjoint(case.operator.forward(start) - case.y) / case.operator.norm() ** 2
    gradient = misfit + weight * (start - denoised)
    torch.testing.assert_close(first.x - start, -0.02 * gradient.sign(), rtol=1e-3, atol=1e-5)


def test_steps_keep_their_images():
    steps = list(
        run(REDDiff(grid=SigmaGrid(n_levels=5, sigma_max=1.0)), problem(1), stationary_prior(), noise=BatchNoise(1))
    )
    assert len({float(step.x.sum()) for step in steps}) == 5


def test_all_scales_of_the_operator_give_the_same_image():
    """Data, noise and operator in other units: the step sizes follow the norm of A."""
    case = problem(2)

    class Scaled(type(case.operator)):  # type: ignore[misc]
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 100 * super().forward(x)

        def adjoint(self, y: torch.Tensor) -> torch.Tensor:
            return 100 * super().adjoint(y)

        def direct(self, y: torch.Tensor) -> torch.Tensor:
            return super().direct(y / 100)

    operator = Scaled(case.operator.geometry, n_full=case.operator.n_full)
    scaled = InverseProblem(operator, 100 * case.y, 100 * case.noise_std)
    method = REDDiff(grid=SigmaGrid(n_levels=20, sigma_max=1.0))
    results = [reconstruct(method, p, stationary_prior(), noise=BatchNoise(2)).x for p in (case, scaled)]
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)
