"""The data step that fast samplers share: pull a denoised image towards the measurement."""

from torch import Tensor

from scoreinv.linalg import conjugate_gradient
from scoreinv.problem import InverseProblem


def proximal(problem: InverseProblem, data_image: Tensor, anchor: Tensor, *, std: float, n_iters: int) -> Tensor:
    """argmin_z |A z - y|^2 / noise_std^2 + |z - anchor|^2 / std^2 by conjugate gradients from the anchor.

    Without noise the anchor only enters as the starting point, and ``n_iters`` decides how far the data
    are fitted (Chung et al. 2024, arXiv:2303.05754).

    Args:
        problem: A, y and noise_std.
        data_image: A^H y, computed once by the caller.
        anchor: the denoised image (batch, 1, height, width).
        std: how far the anchor may be off, per pixel.
        n_iters: conjugate gradient steps.
    """
    weight = (problem.noise_std / std) ** 2

    def apply(z: Tensor) -> Tensor:
        return problem.operator.normal(z) + weight * z

    # Once the data are explained, the residual is rounding noise and further steps would follow it without bound.
    return conjugate_gradient(apply, data_image + weight * anchor, anchor, n_iters=n_iters, tol=1e-5)


def denoised_std(sigma: float, sigma_data: float = 0.25) -> float:
    """A guess at the error of a denoised pixel: sigma / sqrt(1 + sigma^2 / sigma_data^2).

    Exact for white Gaussian images of standard deviation ``sigma_data``, an upper bound for real ones.
    """
    return float(sigma / (1 + (sigma / sigma_data) ** 2) ** 0.5)
