"""What every member of a family must do, as functions that a test calls for each of them."""

import pickle

import torch
from torch import Tensor

from scoreinv.linalg import inner
from scoreinv.operators.linear import LinearOperator, MaskedTransform

EXACT = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest relative error of the adjoint, on white noise."""

ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10}
"""What the order of sums may change, relative to values of order 1 to 10."""


def white_images(operator: LinearOperator, *, n: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """White noise images (n, *image_shape)."""
    return torch.randn(n, *operator.image_shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def white_data(operator: LinearOperator, *, n: int = 2, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """White noise data (n, *data_shape), complex where the operator's data are."""
    like = operator.forward(white_images(operator, n=1, dtype=dtype))
    return torch.randn(n, *operator.data_shape, dtype=like.dtype, generator=torch.Generator().manual_seed(seed))


def check_operator(operator: LinearOperator, *, dtype: torch.dtype = torch.float64, tolerance: float = 0.0) -> None:
    """Everything that a linear operator promises.

    Args:
        operator: to check.
        dtype: of the images.
        tolerance: largest relative error of the adjoint where it is not exact.
    """
    bound = tolerance or EXACT[dtype]
    check_shapes(operator, dtype)
    check_linear(operator, dtype)
    check_adjoint(operator, dtype, bound)
    check_gradients(operator, dtype, bound)
    check_batch_independent(operator, dtype)
    check_pickles(operator, dtype)
    check_norm(operator)
    if isinstance(operator, MaskedTransform):
        check_projection_leaves_the_truth(operator, dtype)


def check_shapes(operator: LinearOperator, dtype: torch.dtype) -> None:
    x = white_images(operator, n=3, dtype=dtype)
    y = operator.forward(x)
    assert y.shape == (3, *operator.data_shape)
    assert operator.adjoint(y).shape == operator.direct(y).shape == x.shape
    assert operator.adjoint(y).dtype == operator.direct(y).dtype == dtype


def check_linear(operator: LinearOperator, dtype: torch.dtype) -> None:
    bound = ROUNDING[dtype]
    u, v = white_images(operator, dtype=dtype), white_images(operator, dtype=dtype, seed=5)
    torch.testing.assert_close(
        operator.forward(2 * u - 3 * v), 2 * operator.forward(u) - 3 * operator.forward(v), rtol=bound, atol=10 * bound
    )
    p, q = white_data(operator, dtype=dtype), white_data(operator, dtype=dtype, seed=6)
    torch.testing.assert_close(
        operator.adjoint(2 * p - 3 * q), 2 * operator.adjoint(p) - 3 * operator.adjoint(q), rtol=bound, atol=10 * bound
    )


def check_adjoint(operator: LinearOperator, dtype: torch.dtype, bound: float) -> None:
    x, y = white_images(operator, dtype=dtype), white_data(operator, dtype=dtype)
    ax, aty = operator.forward(x), operator.adjoint(y)
    scale = (inner(ax, ax) * inner(y, y)).sqrt()
    assert float(((inner(ax, y) - inner(x, aty)) / scale).abs().max()) < bound
    torch.testing.assert_close(operator.normal(x), operator.adjoint(ax))


def check_gradients(operator: LinearOperator, dtype: torch.dtype, bound: float) -> None:
    """The gradient of <A x, y> is A^H y, that of <x, A^H y> is A x; the second derivative of |A x|^2 is 2 A^H A."""
    x = white_images(operator, dtype=dtype).requires_grad_()
    y = white_data(operator, dtype=dtype)
    (gradient,) = torch.autograd.grad(inner(operator.forward(x), y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y), rtol=bound, atol=bound)

    y.requires_grad_()
    (gradient,) = torch.autograd.grad(inner(x.detach(), operator.adjoint(y)).sum(), y)
    torch.testing.assert_close(gradient, operator.forward(x.detach()), rtol=bound, atol=bound)

    energy = inner(operator.forward(x), operator.forward(x)).sum()
    (slope,) = torch.autograd.grad(energy, x, create_graph=True)
    (curved,) = torch.autograd.grad((slope * x.detach()).sum(), x)
    torch.testing.assert_close(curved, 2 * operator.normal(x.detach()), rtol=10 * bound, atol=10 * bound)


def check_batch_independent(operator: LinearOperator, dtype: torch.dtype) -> None:
    x, y = white_images(operator, n=3, dtype=dtype), white_data(operator, n=3, dtype=dtype)
    for function, batch in ((operator.forward, x), (operator.adjoint, y), (operator.direct, y)):
        alone = torch.cat([function(item[None]) for item in batch])
        torch.testing.assert_close(function(batch), alone, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def check_pickles(operator: LinearOperator, dtype: torch.dtype) -> None:
    """The copy that a worker gets does the same, and is small."""
    packed = pickle.dumps(operator)
    copy = pickle.loads(packed)
    x, y = white_images(operator, dtype=dtype), white_data(operator, dtype=dtype)
    assert torch.equal(copy.forward(x), operator.forward(x))
    assert torch.equal(copy.adjoint(y), operator.adjoint(y))
    assert torch.equal(operator.to("cpu").forward(x), operator.forward(x))
    assert len(packed) < 100_000


def check_norm(operator: LinearOperator) -> None:
    """No image is stretched by more than the norm, which some image nearly reaches."""
    x = white_images(operator, n=8, dtype=torch.float32)
    for _ in range(30):
        x = operator.normal(x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1))
    largest = float(x.flatten(1).norm(dim=1).max().sqrt())
    assert abs(operator.norm() / largest - 1) < 0.02


def check_projection_leaves_the_truth(operator: MaskedTransform, dtype: torch.dtype) -> None:
    """After 200 projections of the true image with its own data, it is still there to 60 dB."""
    truth = white_images(operator, n=1, dtype=dtype)
    y, x = operator.forward(truth), truth
    for _ in range(200):
        x = operator.project(x, y, strength=1.0)
    assert float((x - truth).square().mean() / truth.square().mean()) < 1e-6
    assert torch.equal(operator.project(truth, y, strength=0.0), truth)


def check_projection_contracts(operator: MaskedTransform, *, n: int = 20, dtype: torch.dtype = torch.float64) -> float:
    """The relative residual after n projections from nothing; it has never grown on the way."""
    y = operator.forward(white_images(operator, n=1, dtype=dtype))
    x = torch.zeros(1, *operator.image_shape, dtype=dtype)
    previous = residual = float(y.abs().square().sum().sqrt())
    for _ in range(n):
        x = operator.project(x, y, strength=1.0)
        residual = float((y - operator.forward(x)).abs().square().sum().sqrt())
        assert residual <= max(previous * (1 + 1e-6), 1e-9)
        previous = residual
    return residual / float(y.abs().square().sum().sqrt())
