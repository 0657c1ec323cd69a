"""The gradient of log p(y_t | x) against its formula, and the bounds on its steps."""

import pytest
import torch
from torch import Tensor

from scoreinv.denoiser import score
from scoreinv.linalg import norms
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem
from scoreinv.samplers.likelihood import NoisyLikelihood, noisy_likelihood
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, as_real, real_matrix, stationary_prior

MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
SIGMA, NO_STEP = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
each_modality = pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])


def images(n: int = 3, *, seed: int = 0) -> Tensor:
    return BatchNoise(n, seed=seed).normal((1, SIZE, SIZE)).double()


def problem(operator: LinearOperator, noise_std: float = 0.05) -> InverseProblem:
    return InverseProblem(operator, operator.forward(images(seed=1)), noise_std)


def converged(case: InverseProblem, *, rate: float = 0.7) -> NoisyLikelihood:
    return noisy_likelihood(case.with_floor(1e-6), rate=rate, n_cg=200)


def dense_gradient(case: InverseProblem, y: Tensor, x: Tensor, variance: float) -> Tensor:
    """A^T (variance A A^T + noise_std^2 I)^-1 (y - A x) with the real matrix A."""
    matrix = real_matrix(case.operator)
    covariance = variance * matrix @ matrix.T + float(case.noise_std[0]) ** 2 * torch.eye(
        len(matrix), dtype=torch.float64
    )
    residual = as_real(y - case.operator.forward(x))
    return (matrix.T @ torch.linalg.solve(covariance, residual.T)).T.view(x.shape)


@each_modality
def test_the_gradient_is_that_of_data_under_the_image_noise_pushed_through_the_operator(measurement):
    case, x = problem(measurement.operator(SIZE)), images()
    found = converged(case).gradient(x, SIGMA, step=NO_STEP)
    exact = dense_gradient(case, case.y, x, float(0.7 * SIGMA) ** 2)
    assert float(norms(found - exact).max() / norms(exact).min()) < 1e-3


def test_without_noise_the_mri_gradient_is_the_projection_of_algorithm_2():
    """Over (rate sigma)^2, and so the gradient of the paper where the transform is orthonormal."""
    case, x = problem(MRI.operator(SIZE), noise_std=0.0), images()
    found = converged(case).gradient(x, SIGMA, step=NO_STEP)
    projected = case.operator.project(x, case.y, strength=1.0) - x  # type: ignore[attr-defined]
    torch.testing.assert_close(found, projected / (0.7 * SIGMA) ** 2, rtol=1e-4, atol=1e-4)


class Louder(LinearOperator):
    """1000 times another operator."""

    def __init__(self, quiet: LinearOperator) -> None:
        self.quiet = quiet
        self.image_shape, self.data_shape = quiet.image_shape, quiet.data_shape

    def forward(self, x: Tensor) -> Tensor:
        return 1000 * self.quiet.forward(x)


@each_modality
@pytest.mark.parametrize("noise_std", [0.0, 0.05])
def test_a_rate_means_the_same_whatever_the_units_of_the_data(measurement, noise_std: float):
    quiet, x = problem(measurement.operator(SIZE), noise_std), images()
    loud = InverseProblem(Louder(quiet.operator), 1000 * quiet.y, 1000 * noise_std)
    both = [
        noisy_likelihood(case.with_floor(1e-3), rate=0.7, n_cg=5).gradient(x, SIGMA, step=NO_STEP)
        for case in (quiet, loud)
    ]
    torch.testing.assert_close(*both, rtol=1e-3, atol=1e-3)


@each_modality
def test_a_step_is_the_implicit_one(measurement):
    """x' = x + step gradient(x'), with the gradient of the rate alone."""
    case, x, step = problem(measurement.operator(SIZE)), images(), 3 * SIGMA**2
    moved = x + step * converged(case).gradient(x, SIGMA, step=step)
    exact = x + step * dense_gradient(case, case.y, moved, float(0.7 * SIGMA) ** 2)
    # What the conjugate gradients leave, 1e-5 of the data, comes back times the step's curvature and condition.
    assert float(norms(moved - exact).max() / norms(moved - x).min()) < 1e-2


@each_modality
@pytest.mark.parametrize("n_cg", [1, 2, 5])
@pytest.mark.parametrize("step", [1e-4, 1.0, 1e4])
def test_no_step_leads_away_from_the_data(measurement, n_cg: int, step: float):
    case, x = problem(measurement.operator(SIZE), noise_std=0.0), images()
    likelihood = noisy_likelihood(case.with_floor(1e-3), rate=1e-3, n_cg=n_cg)
    length = torch.tensor(step, dtype=torch.float64)
    moved = x + length * likelihood.gradient(x, SIGMA, step=length)
    assert bool((norms(case.residual(moved)) <= norms(case.residual(x)) * (1 + 1e-6)).all())
    if step > 1e-4:
        assert bool((norms(case.residual(moved)) < 0.9 * norms(case.residual(x))).all())


@each_modality
def test_drawn_data_are_data_of_a_noisy_image(measurement):
    """y + sigma A n: the gradient moves by what an image sigma n would move it."""
    case, x = problem(measurement.operator(SIZE)), images()
    drawn = converged(case).gradient(x, SIGMA, step=NO_STEP, noise=BatchNoise(3, seed=7))
    y = case.y + SIGMA * case.operator.forward(images(seed=7))
    moved = InverseProblem(case.operator, y, case.noise_std)
    torch.testing.assert_close(drawn, converged(moved).gradient(x, SIGMA, step=NO_STEP), rtol=1e-3, atol=1e-3)


@each_modality
def test_the_score_of_the_conditional_denoiser_is_the_sum(measurement):
    case, x, prior = problem(measurement.operator(SIZE)), images(), stationary_prior()
    likelihood = converged(case)
    found = score(likelihood.condition(prior, step=NO_STEP), x, SIGMA)
    expected = score(prior, x, SIGMA) + likelihood.gradient(x, SIGMA, step=NO_STEP)
    torch.testing.assert_close(found, expected)
