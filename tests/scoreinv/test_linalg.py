"""Conjugate gradients agree with a dense solve, image by image."""

import pytest
import torch
from torch import Tensor

from scoreinv.linalg import conjugate_gradient, inner, norms

N, BATCH = 16, 3


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def matrices(dtype: torch.dtype = torch.float64) -> Tensor:
    """Positive Hermitian matrices (BATCH, N, N) of condition number below 100."""
    root = torch.randn(BATCH, N, N, dtype=dtype)
    return root @ root.mH / N + 0.1 * torch.eye(N, dtype=dtype)


def solve(b_matrix: Tensor, b: Tensor, x: Tensor, *, n_iters: int, tol: float = 0.0) -> Tensor:
    """conjugate_gradient with one matrix per image."""
    return conjugate_gradient(lambda v: torch.einsum("bij,bj->bi", b_matrix, v), b, x, n_iters=n_iters, tol=tol)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_it_agrees_with_a_dense_solve(dtype: torch.dtype) -> None:
    matrix, b = matrices(dtype), torch.randn(BATCH, N, dtype=dtype)
    found = solve(matrix, b, torch.randn_like(b), n_iters=3 * N)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b), rtol=1e-9, atol=1e-9)


def test_many_steps_after_convergence_do_no_harm_in_single_precision() -> None:
    matrix, b = matrices(torch.float32), torch.randn(BATCH, N)
    found = solve(matrix, b, torch.zeros_like(b), n_iters=500)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, b), rtol=1e-3, atol=1e-4)


def test_each_step_lowers_the_error_in_the_energy_norm() -> None:
    matrix, b = matrices(), torch.randn(BATCH, N, dtype=torch.float64)
    exact, errors = torch.linalg.solve(matrix, b), []
    for n_iters in range(8):
        error = solve(matrix, b, torch.zeros_like(b), n_iters=n_iters) - exact
        errors.append(torch.einsum("bi,bij,bj->b", error, matrix, error))
    assert (torch.stack(errors).diff(dim=0) < 0).all()


@pytest.mark.parametrize("tol", [0.0, 1e-2])
def test_a_batch_equals_its_images_one_by_one(tol: float) -> None:
    matrix, b, x = matrices(), torch.randn(BATCH, N, dtype=torch.float64), torch.randn(BATCH, N, dtype=torch.float64)
    b[1] *= 1e6
    together = solve(matrix, b, x, n_iters=12, tol=tol)
    for i in range(BATCH):
        alone = solve(matrix[i : i + 1], b[i : i + 1], x[i : i + 1], n_iters=12, tol=tol)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_an_image_that_has_converged_stays_as_it_is() -> None:
    matrix, b = matrices(), torch.randn(BATCH, N, dtype=torch.float64)
    x = torch.zeros_like(b)
    x[1] = torch.linalg.solve(matrix[1], b[1]) + 1e-7
    found = solve(matrix, b, x, n_iters=40, tol=1e-4)
    assert torch.equal(found[1], x[1])
    residual = b - torch.einsum("bij,bj->bi", matrix, found)
    assert (norms(residual) < 1e-4 * norms(b)).all()


def test_the_tolerance_ends_the_loop_when_all_have_stopped() -> None:
    calls: list[int] = []

    def identity(v: Tensor) -> Tensor:
        calls.append(len(v))
        return v

    b = torch.randn(BATCH, N)
    found = conjugate_gradient(identity, b, torch.zeros_like(b), n_iters=50, tol=1e-3)
    torch.testing.assert_close(found, b)
    assert len(calls) == 2  # the first residual and the only step that the identity needs


def test_the_starting_point_and_the_right_hand_side_are_left_unchanged() -> None:
    matrix, b, x = matrices(), torch.randn(BATCH, N, dtype=torch.float64), torch.ones(BATCH, N, dtype=torch.float64)
    before = b.clone()
    solve(matrix, b, x, n_iters=5)
    assert torch.equal(x, torch.ones_like(x))
    assert torch.equal(b, before)


def test_a_right_hand_side_of_zero_gives_zero() -> None:
    found = solve(matrices(), torch.zeros(BATCH, N, dtype=torch.float64), torch.zeros(BATCH, N).double(), n_iters=5)
    assert torch.equal(found, torch.zeros_like(found))


def test_images_keep_their_shape() -> None:
    b = torch.randn(2, 1, 4, 4)
    weights = 1 + torch.rand(4, 4)
    found = conjugate_gradient(lambda v: weights * v, b, torch.zeros_like(b), n_iters=40)
    torch.testing.assert_close(found, b / weights, rtol=1e-4, atol=1e-5)


def test_inner_is_the_real_part_of_the_complex_inner_product() -> None:
    a, b = torch.randn(2, 3, 4, dtype=torch.complex128), torch.randn(2, 3, 4, dtype=torch.complex128)
    expected = torch.stack([torch.vdot(a[i].flatten(), b[i].flatten()).real for i in range(2)])
    torch.testing.assert_close(inner(a, b), expected)
    as_real = inner(torch.view_as_real(a), torch.view_as_real(b))
    torch.testing.assert_close(as_real, expected)


def test_norms_broadcast_against_their_batch() -> None:
    a = torch.randn(3, 1, 4, 5, dtype=torch.complex64)
    assert norms(a).shape == (3, 1, 1, 1)
    torch.testing.assert_close(norms(a / norms(a)).flatten(), torch.ones(3))
