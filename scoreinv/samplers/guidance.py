"""What samplers that differentiate through the network share: the pullback, and DDIM steps.

Only the network's call is recorded for the gradient. What follows it is linear in the denoised image, so its
gradient is written down, and the operator needs none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import inner
from scoreinv.noise import Noise

Pullback = Callable[[Tensor], Tensor]
"""v -> J^T v with J = d denoised / d x, both (batch, 1, height, width); it can be called once."""


def denoise(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> tuple[Tensor, Pullback]:
    """The denoised image and its pullback, also where gradients are switched off.

    Until the pullback is called or dropped, the activations of the network stay in memory.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        denoised = denoiser(leaf, sigma.expand(len(x)).to(x.device))

    def pullback(v: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(denoised, leaf, v)
        return gradient

    return denoised.detach(), pullback


def passed_share(v: Tensor, pulled: Tensor) -> Tensor:
    """<v, J^T v> / <v, v> of each image, at least 0.01 and at most 1, (batch, 1, 1, 1).

    sigma^2 J is the covariance of x0 given x, so sigma^2 times this share is the variance of a denoised image in the
    direction of v: what the data can still move there. The floor is for a residual of 0.
    """
    share = inner(v, pulled) / inner(v, v).clamp_min(1e-20)
    return share.clamp(0.01, 1).view(-1, 1, 1, 1)


def ddim_step(x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, noise: Noise, *, eta: float) -> Tensor:
    """One step from sigma to sigma_next (Song, Meng and Ermon 2021, arXiv:2010.02502), in (x, sigma) space:

        x = denoised + kept (x - denoised) + fresh n,   kept^2 sigma^2 + fresh^2 = sigma_next^2

    With many levels both ends of eta sample the same: 0 the probability flow, 1 ancestral sampling, where
    fresh = sigma_next sqrt(1 - sigma_next^2 / sigma^2).
    """
    ratio = sigma_next / sigma
    kept = ratio * (1 - eta**2 * (1 - ratio**2)).sqrt()
    moved = denoised + kept * (x - denoised)
    if eta == 0:
        return moved
    fresh = eta * sigma_next * (1 - ratio**2).sqrt()
    return moved + fresh * noise.normal_like(x)
