"""Denoisers: functions (x, sigma) -> E[x0 | x0 + sigma n = x].

A denoiser is the only thing a sampler knows of a prior. By Tweedie's formula the score is
(denoised - x) / sigma^2. A trained one is a network with a preconditioning; the Gaussian one is
exact and serves as the oracle of the tests.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from scoreinv.band import from_band, low_band
from scoreinv.linalg import spread
from scoreinv.nets.position import position_of
from scoreinv.sde import VE, VP
from scoreinv.spec import Spec

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x (batch, n_channels, height, width), sigma (batch,)) -> denoised, the shape of x."""


class Coefficients(NamedTuple):
    """denoised = skip x + out F(in x, label), each (batch,)."""

    skip: Tensor
    out: Tensor
    input: Tensor
    label: Tensor


class EDMPreconditioning(Spec):
    """Unit variance in and out at every noise level (Karras et al. 2022, arXiv:2206.00364, table 1).

    Images are centred by ``mean`` first, which the formulas assume to be 0.
    """

    kind: Literal["edm"] = "edm"
    mean: float = Field(0.0, description="Mean of the training images.")
    sigma_data: float = Field(0.25, gt=0, description="Standard deviation of the training images.")

    def coefficients(self, sigma: Tensor) -> Coefficients:
        total = (sigma**2 + self.sigma_data**2).sqrt()
        return Coefficients(
            skip=self.sigma_data**2 / total**2,
            out=sigma * self.sigma_data / total,
            input=1 / total,
            label=sigma.log() / 4,
        )


class VEPreconditioning(Spec):
    """The network predicts minus the noise and is told log sigma: s = F(x, log sigma) / sigma (Song et al. 2022)."""

    kind: Literal["ve"] = "ve"
    mean: float = 0.0
    sde: VE = VE()

    def coefficients(self, sigma: Tensor) -> Coefficients:
        one = torch.ones_like(sigma)
        return Coefficients(skip=one, out=sigma, input=one, label=sigma.log())


class VPPreconditioning(Spec):
    """The network predicts minus the noise of the scaled image and is told 999 t (Song et al. 2021)."""

    kind: Literal["vp"] = "vp"
    mean: float = 0.0
    sde: VP = VP()

    def coefficients(self, sigma: Tensor) -> Coefficients:
        t = self.sde.time(sigma)
        return Coefficients(skip=torch.ones_like(sigma), out=sigma, input=self.sde.scale(t), label=999 * t)


AnyPreconditioning = Annotated[EDMPreconditioning | VEPreconditioning | VPPreconditioning, Field(discriminator="kind")]


class ScoreModel(nn.Module):
    """A network with a preconditioning: a denoiser with weights.

    The network is called as network(x (batch, 1, height, width), label (batch,)) and may run under
    autocast; everything around it stays in float32, where sigma^2 and x at large sigma need it.

    Below ``sigma_min``, the smallest level it was trained on, a network answers at random: it is asked for that level.

    Images of another side than ``size``, the one that it was trained for, and crops come to the network with the
    position of their pixels, network(x, label, position (batch, 2, height, width)); without a size all are whole.

    With a ``coarse`` model, of the low frequencies of the same images, a share of these is what it makes of those of x:

        D(x, sigma) = F(x, sigma) + share up(C(low(x), sigma m / n) - low(F(x, sigma)))

    for n x n pixels and a band of m x m. A network on a coarse grid learns large structures from many more images in
    the same time; of two that err about equally the mean errs less than either.
    """

    def __init__(self, network: nn.Module, preconditioning: AnyPreconditioning, *, size: int | None = None) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        self.size = size
        self.sigma_min = 0.0
        self.autocast_dtype: torch.dtype | None = None
        self.coarse: ScoreModel | None = None
        self.coarse_share = 1.0

    def forward(self, x: Tensor, sigma: Tensor, place: Tensor | None = None) -> Tensor:
        """Denoised images, float32, the shape of x; ``place`` is that of crops, as ``position_of`` takes it."""
        denoised = self._denoised(x, sigma, place)
        if self.coarse is None:
            return denoised
        assert self.coarse.size is not None, "a coarse model knows its grid"
        n = x.shape[-1]
        # In larger images the coarse pixels are as large as in those that it was trained for.
        m = round(self.coarse.size * n / (self.size or n))
        low = self.coarse(low_band(x, m), sigma * (m / n))
        return denoised + self.coarse_share * from_band(low - low_band(denoised, m), n)

    def _denoised(self, x: Tensor, sigma: Tensor, place: Tensor | None) -> Tensor:
        sigma = sigma.to(x.device, torch.float32).expand(len(x)).clamp_min(self.sigma_min)
        c = self.preconditioning.coefficients(sigma)
        skip, out, scale = (v.view(-1, 1, 1, 1) for v in (c.skip, c.out, c.input))
        centred = x - self.preconditioning.mean
        with torch.autocast(x.device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            raw: Tensor = self.network(scale * centred, c.label, *self._position(centred, place))
        return skip * centred + out * raw.float() + self.preconditioning.mean

    def _position(self, x: Tensor, place: Tensor | None) -> tuple[Tensor, ...]:
        """What the network is told besides; nothing of the images that it knows."""
        is_known = self.size is None or tuple(x.shape[-2:]) == (self.size, self.size)
        return () if is_known and place is None else (position_of(x, self.size or 0, place),)


def score(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """Gradient of log p(x; sigma) by Tweedie's formula, (denoised - x) / sigma^2.

    Args:
        denoiser: of the prior.
        x: images under noise (batch, n_channels, height, width).
        sigma: its level: one for all, or one for each (batch,) or (batch, 1, 1, 1).
    """
    levels = sigma.to(x).reshape(-1).expand(len(x))
    return (denoiser(x, levels) - x) / spread(levels, x) ** 2


def mirrored(denoiser: Denoiser) -> Denoiser:
    """The denoiser of the images' mirror images, left and right exchanged."""
    return lambda x, sigma: denoiser(x.flip(-1), sigma).flip(-1)


class GaussianDenoiser:
    """The exact denoiser of a Gaussian prior N(mean, basis diag(variances) basis^T).

    E[x0 | x] = mean + C (C + sigma^2)^-1 (x - mean). The oracle for every sampler: with a linear
    operator and Gaussian noise the posterior is known in closed form (``posterior``).
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        """Take a mean (..., height, width) of n numbers and a covariance (n, n)."""
        self.mean = mean
        self.covariance = covariance
        self._variances, self._basis = torch.linalg.eigh(covariance)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        variances = self._variances.clamp_min(0).to(x)
        shrink = variances / (variances + sigma.to(x).expand(len(x)).view(-1, 1) ** 2)
        basis = self._basis.to(x)
        centred = (x - self.mean.to(x)).flatten(1)
        denoised: Tensor = (centred @ basis * shrink) @ basis.T
        return self.mean.to(x) + denoised.view(x.shape)

    def sample(self, standard: Tensor) -> Tensor:
        """Exact prior samples from standard normal draws (batch, 1, height, width)."""
        # The symmetric root is unique; the basis is not, and differs from one machine to the next.
        root = self._basis * self._variances.clamp_min(0).sqrt() @ self._basis.T
        samples: Tensor = standard.flatten(1) @ root.to(standard)
        return self.mean.to(standard) + samples.view(standard.shape)

    def posterior(self, matrix: Tensor, y: Tensor, noise_std: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean (n,) and covariance (n, n) of x0 given y = matrix x0 + noise, with y and perhaps noise_std (m,)."""
        gain = self.covariance @ matrix.T
        variances = torch.as_tensor(noise_std, dtype=y.dtype).expand(len(y)) ** 2
        inner = matrix @ gain + variances.diag()
        weights = torch.linalg.solve(inner, gain.T).T
        mean = self.mean.flatten() + weights @ (y - matrix @ self.mean.flatten())
        return mean, self.covariance - weights @ gain.T


class MixtureDenoiser:
    """The exact denoiser of a mixture of isotropic Gaussians, equally likely and of one standard deviation."""

    def __init__(self, means: Tensor, std: float) -> None:
        """Take means (components, height, width)."""
        self.means = means
        self.std = std

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        variance = self.std**2 + sigma.to(x).expand(len(x)).view(-1, 1) ** 2
        means = self.means.to(x).flatten(1)
        # Its shortcut by matrix products, taken from 26 images on, loses small distances in single precision.
        distance = torch.cdist(x.flatten(1), means, compute_mode="donot_use_mm_for_euclid_dist") ** 2
        weights = torch.softmax(-0.5 * distance / variance, dim=1)
        centre = weights @ means
        return (centre + self.std**2 / variance * (x.flatten(1) - centre)).view(x.shape)


def log_uniform_sigmas(n: int, sigma_min: float, sigma_max: float) -> Tensor:
    """n noise levels, evenly spaced in the logarithm, from small to large."""
    return torch.logspace(math.log10(sigma_min), math.log10(sigma_max), n)
