"""The data step that fast samplers share: pull a denoised image towards the measurement."""

from typing import TypeVar

import torch
from torch import Tensor

from scoreinv.linalg import conjugate_gradient, spread
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem

Sigma = TypeVar("Sigma", float, Tensor)
"""One level for all images, or one for each (batch, 1, 1, 1)."""


def proximal(
    problem: InverseProblem, data_image: Tensor, anchor: Tensor, *, std: float | Tensor, n_iters: int
) -> Tensor:
    """argmin_z |A z - y|^2 / noise_std^2 + |z - anchor|^2 / std^2 by conjugate gradients from the anchor.

    Without noise the anchor only enters as the starting point, and ``n_iters`` decides how far the data
    are fitted (Chung et al. 2024, arXiv:2303.05754).

    Args:
        problem: A, y and noise_std.
        data_image: A^H y, computed once by the caller.
        anchor: the denoised image (batch, n_channels, height, width).
        std: how far the anchor may be off, per pixel; one number, or one per image (batch, 1, 1, 1).
        n_iters: conjugate gradient steps.
    """
    weight = (spread(problem.noise_std, anchor) / torch.as_tensor(std).to(anchor)) ** 2

    def apply(z: Tensor) -> Tensor:
        return torch.addcmul(problem.operator.normal(z), z, weight)

    # Once the data are explained, the residual is rounding noise and further steps would follow it without bound.
    right, preconditioner = data_image + weight * anchor, problem.operator.preconditioner(weight)
    return conjugate_gradient(apply, right, anchor, n_iters=n_iters, tol=1e-5, preconditioner=preconditioner)


def perturbed_proximal(
    problem: InverseProblem, data_image: Tensor, anchor: Tensor, *, std: float | Tensor, n_iters: int, noise: Noise
) -> Tensor:
    """``proximal`` for the data under fresh noise of their own deviation: "perturb and solve".

    Where the anchor is a draw of N(mean, std^2), the result is an exact draw of N(mean, std^2) given y, in as far as
    the conjugate gradients have converged (Papandreou and Yuille 2010, "Gaussian sampling by local perturbations").
    """
    perturbation = problem.operator.adjoint(noise.normal_like(problem.y))
    perturbed = data_image + spread(problem.noise_std, anchor) * perturbation
    return proximal(problem, perturbed, anchor, std=std, n_iters=n_iters)


def denoised_std(sigma: Sigma, sigma_data: float = 0.25) -> Sigma:
    """A guess at the error of a denoised pixel: sigma / sqrt(1 + sigma^2 / sigma_data^2).

    Exact for white Gaussian images of standard deviation ``sigma_data``, an upper bound for real ones.
    """
    relative = sigma / sigma_data
    return sigma / (1 + relative * relative) ** 0.5  # type: ignore[no-any-return]


def flow_std(sigma: Sigma, sigma_data: float = 0.25) -> Sigma:
    """The deviation that belongs to a pixel carried from ``sigma`` to 0 by the probability flow (see ``daps``).

    sigma_data sqrt(1 - 1 / sqrt(1 + sigma^2 / sigma_data^2)): sigma / sqrt(2) at small sigma, at most ``sigma_data``.
    """
    relative = sigma / sigma_data
    return sigma_data * (1 - (1 + relative * relative) ** -0.5) ** 0.5  # type: ignore[no-any-return]
