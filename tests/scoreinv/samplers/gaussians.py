"""Gaussian problems whose posterior is known exactly, and how far a sampler's samples are from it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.noise import Noise
from scoreinv.operators.fourier import fft2c, mirror
from scoreinv.operators.linear import LinearOperator
from scoreinv.problem import InverseProblem, Method, reconstruct

SIZE = 8
MEASURED = 0.05
"""A direction counts as measured if its singular value is above this share of the largest."""


class BatchNoise(Noise):
    """One stream for a whole batch: thousands of samples in the time of one."""

    def __init__(self, n: int, seed: int = 0) -> None:
        self._n = n
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._n

    def normal(self, shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
        return torch.randn(self._n, *shape, generator=self._generator).to(device)


def stationary_prior(size: int = SIZE) -> GaussianDenoiser:
    """Smooth images around 0.5 whose covariance is diagonal in the Fourier basis."""
    f = torch.arange(size, dtype=torch.float64) - size // 2
    power = 0.3 / (1 + f[:, None] ** 2 + f[None, :] ** 2)
    power = (power + mirror(power)) / 2
    basis = fft2c(torch.eye(size * size, dtype=torch.float64).view(-1, 1, size, size)).view(size * size, -1)
    covariance = (basis.conj() * power.flatten() @ basis.T).real
    return GaussianDenoiser(torch.full((size, size), 0.5, dtype=torch.float64), covariance)


def varying_prior(size: int = SIZE) -> GaussianDenoiser:
    """Smooth images whose variance falls towards the border: diagonal in no convenient basis."""
    grid = torch.linspace(-1, 1, size, dtype=torch.float64)
    rows, columns = (g.flatten() for g in torch.meshgrid(grid, grid, indexing="ij"))
    distance = (rows[:, None] - rows) ** 2 + (columns[:, None] - columns) ** 2
    std = 0.25 * torch.exp(-(rows**2 + columns**2))
    covariance = std[:, None] * std * torch.exp(-distance / 0.3) + 1e-4 * torch.eye(size * size)
    return GaussianDenoiser(torch.full((size, size), 0.4, dtype=torch.float64), covariance)


def two_channels(prior: GaussianDenoiser) -> GaussianDenoiser:
    """Images of two channels, each as of a prior of one, correlated by a half with each other."""
    together = torch.kron(torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64), prior.covariance)
    return GaussianDenoiser(prior.mean.expand(2, *prior.mean.shape), together)


def real_matrix(operator: LinearOperator) -> Tensor:
    """The operator as a real matrix, the imaginary part of complex data below the real part."""
    n = math.prod(operator.image_shape)
    return as_real(operator.forward(torch.eye(n, dtype=torch.float64).view(-1, *operator.image_shape))).T


def as_real(y: Tensor) -> Tensor:
    """Data (batch, ...) as real vectors (batch, m)."""
    flat = y.flatten(1)
    return torch.cat([flat.real, flat.imag], 1) if flat.is_complex() else flat


class Errors(NamedTuple):
    """Of samples against the exact posterior, apart for measured directions and for the others.

    ``mean`` is the root mean square error of the sample mean in posterior standard deviations, ``variance``
    the sampled variance over the exact one; ``monte_carlo`` is what ``mean`` would be for exact samples.
    """

    mean_measured: float
    mean_unmeasured: float
    variance_measured: float
    variance_unmeasured: float
    monte_carlo: float


def compare(
    method: Method, operator: LinearOperator, prior: GaussianDenoiser, *, noise_std: float | Tensor, n: int
) -> Errors:
    """Run a method n times on one noisy measurement of one sample of the prior.

    The noise is the same for all data, or one for each of them (data_shape), per real component.
    """
    deviations = torch.as_tensor(noise_std, dtype=torch.float64)
    truth = prior.sample(BatchNoise(1, seed=3).normal(operator.image_shape).double())
    matrix = real_matrix(operator)
    clean = operator.forward(truth)
    is_reached = operator.forward(torch.randn_like(truth)) != 0
    y = clean + deviations * BatchNoise(1, seed=5).normal_like(clean) * is_reached
    each = as_real(torch.complex(deviations, deviations).expand_as(y) if y.is_complex() else deviations.expand_as(y))
    mean, covariance = prior.posterior(matrix, as_real(y)[0], each[0])
    data = y.to(torch.complex64 if y.is_complex() else torch.float32).expand(n, *y.shape[1:])
    levels = deviations.expand(data.shape) if deviations.ndim else deviations
    result = reconstruct(method, InverseProblem(operator, data, levels), prior, noise=BatchNoise(n))
    return errors_by_direction(result.x.double().flatten(1), mean, covariance, matrix)


def errors_by_direction(samples: Tensor, mean: Tensor, covariance: Tensor, matrix: Tensor) -> Errors:
    """Sample moments against exact ones along the right singular vectors of the measurement."""
    _, values, directions = torch.linalg.svd(matrix, full_matrices=True)
    strength = torch.zeros(len(directions), dtype=values.dtype)
    strength[: len(values)] = values
    measured = strength > MEASURED * strength.max()
    coordinates = samples @ directions.T
    exact = (directions @ covariance @ directions.T).diagonal()
    offset = (coordinates.mean(0) - directions @ mean) / exact.sqrt()
    ratio = coordinates.var(0) / exact
    parts = [float(offset[d].square().mean().sqrt()) for d in (measured, ~measured)]
    parts += [float(ratio[d].mean()) for d in (measured, ~measured)]
    return Errors(*parts, monte_carlo=len(samples) ** -0.5)
