"""The data's pull on a noisy image: the gradient of log p(y_t | x), for samplers that add it to the score.

At noise level sigma the data are taken for y_t = A x + e, with the noise of the image, pushed through A, and their own:

    cov e = r^2 A A^H + noise_std^2 I,   r = rate sigma
    gradient = A^H (cov e)^-1 (y_t - A x) = (p - x) / r^2,
    p = argmin_z |A z - y_t|^2 / noise_std^2 + |z - x|^2 / r^2      (``proximal``, by conjugate gradients)

Without noise, and where A A^H = I (a mask of an orthonormal transform), it is A^H (y_t - A x) / r^2, the gradient of
Song et al. 2022 (arXiv:2111.08005). For any other A the covariance makes up for the singular values: with
r^2 |A|^2 I in its place a ``rate`` would mean something else for each spatial frequency of a sinogram. Towards small
sigma the gradient becomes that of the true likelihood of y, so noise_std decides how closely the data are followed.

Which rate. At small sigma x0 given x is about N(x, sigma^2), so y given x has rate 1, and y_t = y + sigma A n has 1.41.
The rates of Song et al. are for a gradient that weighs an entry of k-space by half if its mirror is not measured. The
covariance makes up for that too: where most mirrors are missing, their rates count here as 1.41 times theirs.

Stability. With a singular value a the curvature is a^2 / (r^2 a^2 + noise_std^2), at most 1 / r^2 for every operator.
The implicit Euler step x' = x + step gradient(x') is, written out,

    x' = x + step A^H ((r^2 + step) A A^H + noise_std^2 I)^-1 (y_t - A x)

or the explicit one with r^2 + step in the place of r^2. So r^2 = (rate sigma)^2 + step is used throughout. However
small the rate and few the levels, no step overshoots: it goes step / r^2 < 1 of the way to p, and p is never further
from the data than x, wherever the conjugate gradients are stopped.
"""

from dataclasses import dataclass

from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import spread
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem
from scoreinv.samplers.data_step import proximal


@dataclass(frozen=True, eq=False)
class NoisyLikelihood:
    """log p(y_t | x) at every noise level.

    Attributes:
        problem: A, y and noise_std, which is above 0 for every image.
        data_image: A^H y.
        rate: the deviation of the image's noise in y_t, in units of sigma.
        n_cg: conjugate gradient steps per gradient.
    """

    problem: InverseProblem
    data_image: Tensor
    rate: float
    n_cg: int

    def gradient(self, x: Tensor, sigma: Tensor, *, step: Tensor, noise: Noise | None = None) -> Tensor:
        """The gradient with respect to ``x`` (batch, n_channels, height, width) for a step of length ``step``.

        Args:
            x: images under noise of level ``sigma``.
            sigma: the level: a single number, or one for each image (batch, 1, 1, 1).
            step: how far the gradient is to be followed at most, in the same form.
            noise: draws y_t = y + sigma A n; y_t = y without.
        """
        data_image = self.data_image
        if noise is not None:
            data_image = data_image + sigma * self.problem.operator.normal(noise.normal_like(x))
        variance = (self.rate * sigma) ** 2 + step
        return (proximal(self.problem, data_image, x, std=variance.sqrt(), n_iters=self.n_cg) - x) / variance

    def condition(self, denoiser: Denoiser, *, step: Tensor, noise: Noise | None = None) -> Denoiser:
        """E[x0 | x, y_t], whose score is the sum of the prior's and the gradient; for one step at a time."""

        def conditional(x: Tensor, sigma: Tensor) -> Tensor:
            levels = spread(sigma, x)
            return denoiser(x, sigma) + levels**2 * self.gradient(x, levels, step=step, noise=noise)

        return conditional


def noisy_likelihood(problem: InverseProblem, *, rate: float, n_cg: int) -> NoisyLikelihood:
    """The likelihood of a problem whose noise is above 0."""
    return NoisyLikelihood(problem, problem.operator.adjoint(problem.y), rate, n_cg)
