"""How far an image is off, by data alone: some views are left out, and say what an image made without them is worth.

A direct reconstruction inverts A, step A^T filtered(A e) = e, so the sum of squares of an image e is step <A e,
filtered(A e)>: of parallel views that is the Fourier slice theorem with Parseval's. Views that an image was not made
from see its error e with their noise, whose share is known. So they tell the mean square of e, whatever the method and
however plausible the image; only what lies between the grid and nature counts as its error, too.

The image is made of fewer views, and those that were left out lie where it knows least, in the middle of the gaps, so
what they say is worse than the image of all views is (``benchmarks/cross_validation.py`` says by how much); of errors
that are finer than a bin they see a part. It tells one slice, method, scanner and setting from another.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.linalg import spread
from scoreinv.operators.ct import CTOperator
from scoreinv.operators.linear import LinearOperator
from scoreinv.problem import InverseProblem

N_LEFT_OUT = 6
"""About so many views; a fourth of few."""

FULL = 0.95
"""Share of the whole arc over which views must be spread."""


class Parts(NamedTuple):
    """A problem whose images may be made, and one whose data judge them."""

    kept: InverseProblem
    left_out: InverseProblem


def parts(problem: InverseProblem, *, n_left_out: int = N_LEFT_OUT) -> Parts:
    """The problem of most views, and that of the few others, about ``n_left_out``.

    Raises:
        UserError: if there are no views that could be left out.
    """
    operator = checked(problem.operator)
    n = operator.geometry.data_shape[0]
    places = torch.arange(n)
    every = max(4, n // n_left_out)
    is_left_out = places % every == min(2, n - 1)
    return Parts(*(_with_views(problem, operator, places[chosen]) for chosen in (~is_left_out, is_left_out)))


def checked(operator: LinearOperator) -> CTOperator:
    """The operator, if some of its views can be left out.

    Raises:
        UserError: if they cannot.
    """
    if not isinstance(operator, CTOperator) or operator.per_image:
        raise UserError(
            "only CT without metal has views that can be left out to see how far images are off: set "
            "is_cross_validated=false"
        )
    geometry, n = operator.geometry, operator.geometry.data_shape[0]
    if n * geometry.step < FULL * geometry.full_arc:
        raise UserError(
            f"views over {math.degrees(n * geometry.step):.0f} degrees tell nothing of the rest, and so not how far "
            "images are off: set is_cross_validated=false"
        )
    if n < 2:
        raise UserError("one view alone cannot be left out: set is_cross_validated=false")
    return operator


def expected_mse(images: Tensor, left_out: InverseProblem) -> Tensor:
    """The mean square over the pixels of what images (batch, n_channels, height, width) are off, (batch,).

    Without bias if the noise is as the problem says, so it may be below 0 where there is much of it.
    """
    operator = left_out.operator
    assert isinstance(operator, CTOperator)
    residual = left_out.residual(images)
    noise_std = left_out.noise_std if left_out.noise_std.ndim > 1 else spread(left_out.noise_std, residual)
    return operator.energy(residual) - operator.noise_energy(noise_std.expand_as(residual))


def _with_views(problem: InverseProblem, operator: CTOperator, places: Tensor) -> InverseProblem:
    noise = problem.noise_std
    return InverseProblem(
        operator.views(places.tolist()),
        problem.y[..., places, :],
        noise if noise.ndim == 1 else noise[..., places, :],
        is_exact=problem.is_exact,
    )
