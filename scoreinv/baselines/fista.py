"""FISTA: accelerated proximal gradient steps (Beck and Teboulle 2009, doi:10.1137/080716542).

    minimise  1/2 |A x - y|^2 + |A|^2 R(x)

by gradient steps of length 1 / |A|^2, each followed by R's own denoising argmin_x 1/2 |x - v|^2 + R(x). The factor
|A|^2 makes one weight of R mean about the same for every operator. Noise adds to it (``weights_under_noise``).
"""

from collections.abc import Callable, Iterator

from torch import Tensor

from scoreinv.linalg import spread
from scoreinv.problem import InverseProblem, Step


def fista(problem: InverseProblem, denoise: Callable[[Tensor], Tensor], *, n_iters: int) -> Iterator[Step]:
    """Yield the iterates from the operator's first image on; ``denoise`` may remember where it was."""
    x = z = feasible(problem.operator.start(problem.y))
    step, momentum = 1 / spread(problem.operator.norm(), x) ** 2, 1.0
    for index in range(n_iters):
        x_next = denoise(z + step * problem.operator.adjoint(problem.residual(z)))
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        z = x_next + (momentum - 1) / following * (x_next - x)
        x, momentum = x_next, following
        yield Step(index, 0.0, x)


def weights_under_noise(problem: InverseProblem, weight: float, noise_weight: float) -> Tensor:
    """The weight of R for each image, (batch, 1, 1, 1).

    It is the root of weight^2 + (noise_weight times the noise of a step)^2. The first is for what no noise model tells,
    as the error of the grid. The second is a threshold above the noise that every step brings in, as in wavelet
    shrinkage (Donoho 1995, doi:10.1109/18.382009), and each image's own. ``benchmarks/results/weights.md``.
    """
    noise = noise_weight * problem.noise_of_step()
    return spread((noise**2 + weight**2).sqrt(), noise.new_empty(0, 1, 1, 1))


def feasible(x: Tensor) -> Tensor:
    """Images (batch, n_channels, height, width) without negative values, if they are real: complex ones may be all."""
    return x.clamp_min(0) if x.shape[1] == 1 else x
