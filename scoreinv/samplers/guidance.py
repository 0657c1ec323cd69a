"""What samplers that differentiate through the network share: the pullback.

Only the network's call is recorded for the gradient. What follows it is linear in the denoised image, so its
gradient is written down, and the operator needs none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.linalg import inner

Pullback = Callable[[Tensor], Tensor]
"""v -> J^T v with J = d denoised / d x, both (batch, n_channels, height, width); it can be called once."""


def denoise(denoiser: Denoiser, x: Tensor, sigma: Tensor) -> tuple[Tensor, Pullback]:
    """The denoised images at levels (batch, 1, 1, 1) and their pullback, also where gradients are switched off.

    Until the pullback is called or dropped, the activations of the network stay in memory.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        denoised = denoiser(leaf, sigma.flatten())

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
