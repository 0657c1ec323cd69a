"""Linear algebra over callables, batched, each image on its own."""

from collections.abc import Callable

import torch
from torch import Tensor


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> of each item of a batch, shape (batch,)."""
    product = a.conj() * b if a.is_complex() else a * b
    return product.real.flatten(1).sum(1) if product.is_complex() else product.flatten(1).sum(1)


def norms(a: Tensor) -> Tensor:
    """Euclidean norm of each item of a batch, shaped (batch, 1, 1, ...) to broadcast against ``a``."""
    return spread(inner(a, a).sqrt(), a)


def spread(values: Tensor, like: Tensor) -> Tensor:
    """One value per item of a batch (batch,), shaped (batch, 1, 1, ...) to broadcast against ``like``."""
    return values.view(-1, *[1] * (like.ndim - 1))


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    x: Tensor,
    *,
    n_iters: int,
    tol: float = 0.0,
    preconditioner: Tensor | float = 1.0,
) -> Tensor:
    """Solution of B x = b for a symmetric positive B, one per image (Hestenes and Stiefel 1952).

    Args:
        apply: x -> B x over a batch.
        b: right-hand sides (batch, ...).
        x: starting points, left unchanged.
        n_iters: at most this many steps.
        tol: an image stops when its residual is below ``tol`` times the norm of its b; the loop ends
            when all have stopped, so that no image depends on its neighbours in the batch.
        preconditioner: M^-1 of a diagonal M > 0 that resembles B; broadcasts to x.
    """
    residual = b - apply(x)
    direction = preconditioner * residual
    rho, goal = inner(residual, direction), tol**2 * inner(b, b)
    for _ in range(n_iters):
        active = inner(residual, residual) > goal
        if not bool(active.any()):
            break
        image = apply(direction)
        curvature = inner(direction, image)
        step = torch.where(active & (curvature > 0), rho / curvature.clamp_min(1e-30), 0.0)
        x = x + spread(step, x) * direction
        residual = residual - spread(step, x) * image
        descent = preconditioner * residual
        rho_next = torch.where(active, inner(residual, descent), rho)
        direction = descent + spread(rho_next / rho.clamp_min(1e-30), x) * direction
        rho = rho_next
    return x
