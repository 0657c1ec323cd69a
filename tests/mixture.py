"""A prior that is neither Gaussian nor trained, with its exact denoiser."""

import torch
from torch import Tensor


class MixtureDenoiser:
    """The exact denoiser of a mixture of isotropic Gaussians, all of one standard deviation."""

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
