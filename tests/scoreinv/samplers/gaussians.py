"""Gaussian problems whose posterior is known exactly, and how far a sampler's samples are from it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.noise import Noise
from scoreinv.operators.fourier import fft2c
from scoreinv.operators.linear import LinearOperator
from scoreinv.problem import InverseProblem, Method, reconstruct

SIZE = 8


class BatchNoise(Noise):
    """One stream for a whole batch: thousands of samples in the time of one."""

    def __init__(self, n: int, seed: int = 0) -> None:
        self._n = n
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._n

    def normal(self, shape: object, *, device: torch.device | None = None) -> Tensor:
        return torch.randn(self._n, *shape, generator=self._generator)  # type: ignore[misc]


def stationary_prior(size: int = SIZE) -> GaussianDenoiser:
    """Smooth images around 0.5 whose covariance is diagonal in the Fourier basis."""
    f = torch.arange(size, dtype=torch.float64) - size // 2
    power = 0.3 / (1 + f[:, None] ** 2 + f[None, :] ** 2)
    basis = fft2c(torch.eye(size * size, dtype=torch.float64).view(-1, 1, size, size)).view(size * size, -1)
    symmetric = (power + power.roll((-1, -1), (0, 1)).flip(0, 1).roll((0, 0), (0, 1))) / 2
    covariance = (basis.conj() * symmetric.flatten() @ basis.T).real
    return GaussianDenoiser(torch.full((size, size), 0.5, dtype=torch.float64), (covariance + covariance.T) / 2)


def varying_prior(size: int = SIZE) -> GaussianDenoiser:
    """Smooth images whose variance falls towards the border: not diagonal in any convenient basis."""
    grid = torch.linspace(-1, 1, size, dtype=torch.float64)
    rows, columns = (g.flatten() for g in torch.meshgrid(grid, grid, indexing="ij"))
    distance = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    std = 0.25 * torch.exp(-(rows**2 + columns**2))
    covariance = std[:, None] * std * torch.exp(-distance / 0.3) + 1e-4 * torch.eye(size * size)
    return GaussianDenoiser(torch.full((size, size), 0.4, dtype=torch.float64), covariance)


def real_matrix(operator: LinearOperator) -> Tensor:
    """The operator as a real matrix, the real and imaginary part of complex data below each other."""
    n = operator.image_shape[-1]
    columns = operator.forward(torch.eye(n * n, dtype=torch.float64).view(-1, 1, n, n))
    return as_real(columns).T


def as_real(y: Tensor) -> Tensor:
    """Data (batch, ...) as real vectors (batch, m)."""
    flat = y.flatten(1)
    return torch.cat([flat.real, flat.imag], 1) if flat.is_complex() else flat


class Errors(NamedTuple):
    """Of samples against the exact posterior, apart for directions that were measured and those that were not.

    ``mean`` is in units of the Monte Carlo error (1 is perfect), ``variance`` is sampled over exact.
    """

    mean_measured: float
    mean_unmeasured: float
    variance_measured: float
    variance_unmeasured: float


def compare(method: Method, operator: LinearOperator, prior: GaussianDenoiser, *, noise_std: float, n: int) -> Errors:
    """Run a method on one noisy measurement of one prior sample, n times, and compare with the posterior."""
    size = operator.image_shape[-1]
    truth = prior.sample(torch.randn(1, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    matrix = real_matrix(operator)
    y = operator.forward(truth)
    y = y + noise_std * BatchNoise(1, seed=5).normal_like(y) * (operator.forward(torch.ones_like(truth)) != 0 if y.is_complex() else 1)
    mean, covariance = prior.posterior(matrix, as_real(y)[0], max(noise_std, 1e-4))
    problem = InverseProblem(operator, y.expand(n, *y.shape[1:]).to(_single(y)), noise_std)
    samples = reconstruct(method, problem, prior, noise=BatchNoise(n)).x.double().flatten(1)
    return Errors(*_by_direction(samples, mean, covariance, matrix))


def _by_direction(samples: Tensor, mean: Tensor, covariance: Tensor, matrix: Tensor) -> tuple[float, ...]:
    _, values, rows = torch.linalg.svd(matrix, full_matrices=True)
    padded = torch.zeros(len(rows), dtype=values.dtype)
    padded[: len(values)] = values
    is_measured = padded > 0.05 * padded.max()
    coordinates, centre = samples @ rows.T, rows @ mean
    exact = (rows @ covariance @ rows.T).diagonal().clamp_min(1e-8)
    means, variances = coordinates.mean(0), coordinates.var(0)
    error = (means - centre).square() / (exact / len(samples))
    ratio: Callable[[Tensor], float] = lambda d: float(variances[d].sum() / exact[d].sum())  # noqa: E731
    rms: Callable[[Tensor], float] = lambda d: float(error[d].mean().sqrt())  # noqa: E731
    return rms(is_measured), rms(~is_measured), ratio(is_measured), ratio(~is_measured)


def _single(y: Tensor) -> torch.dtype:
    return torch.complex64 if y.is_complex() else torch.float32
