"""Denoising score matching."""

import torch
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.training.levels import AnyLevels

N_AT_ONCE = 4
"""Images that a validation denoises together; a GPU, which would wait for so few, takes ``N_ON_GPU``."""
N_ON_GPU = 32


def denoising_loss(denoiser: Denoiser, images: Tensor, sigma: Tensor, normal: Tensor, levels: AnyLevels) -> Tensor:
    """weight(sigma) mean |D(x0 + sigma n) - x0|^2 of each image, (batch,).

    Args:
        denoiser: the score model.
        images: clean images (batch, n_channels, height, width).
        sigma: noise levels (batch,).
        normal: standard normal draws, the shape of ``images``.
        levels: gives the weight.
    """
    noisy = images + sigma.view(-1, 1, 1, 1) * normal
    error = (denoiser(noisy, sigma) - images).square().flatten(1).mean(1)
    return levels.weight(sigma) * error


@torch.no_grad()
def denoising_curve(denoiser: Denoiser, images: Tensor, sigmas: Tensor, *, seed: int = 0) -> Tensor:
    """Root mean squared denoising error at each of the given noise levels, (n_levels,).

    The noise is the same at every call, so that two networks can be compared. A few images are denoised at
    once, as a validation must not need more memory than the training.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(images.shape, generator=generator).to(images.device)
    n_at_once = N_ON_GPU if images.is_cuda else N_AT_ONCE
    pairs = list(zip(torch.split(images, n_at_once), torch.split(normal, n_at_once), strict=True))
    # Read once, at the end: a GPU has the next images to denoise meanwhile.
    squares = [torch.stack([_error(denoiser, x, n, s).sum() for x, n in pairs]) for s in sigmas.to(images.device)]
    return torch.stack(squares).double().sum(1).cpu().div(images.numel()).sqrt().float()


def _error(denoiser: Denoiser, images: Tensor, normal: Tensor, sigma: Tensor) -> Tensor:
    return (denoiser(images + sigma * normal, sigma.expand(len(images))) - images).square()
