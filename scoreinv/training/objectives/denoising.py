"""Denoising score matching: the prior of images alone (Vincent 2011; Karras et al. 2022).

    loss = weight(sigma) mean |D(x0 + sigma n, sigma) - x0|^2,    n ~ N(0, 1)

with sigma from ``levels``, spread evenly over their distribution in every batch.

With ``crop`` it learns from random squares of the images, which cost less by their area, and is told where they lie. A
convolutional network then denoises whole images too, though what is further apart than a crop it has never seen
together.
"""

from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from scoreinv.contract import ImageContract
from scoreinv.denoiser import AnyPreconditioning, Denoiser, EDMPreconditioning, ScoreModel, log_uniform_sigmas
from scoreinv.errors import UserError
from scoreinv.reconstructors import AnyModel, ReconstructorSpec
from scoreinv.training.crops import CroppedBatches
from scoreinv.training.data import Batch, Batches
from scoreinv.training.device import normal_like, sent
from scoreinv.training.levels import AnyLevels, LogNormalLevels, stratified
from scoreinv.training.loss import denoising_curve, denoising_loss
from scoreinv.training.objectives.objective import MODEL, Examples, Models, Objective

N_SIGMAS = 9
"""Noise levels at which the error on held-out images is measured."""


class Denoising(Objective):
    """A denoiser at all noise levels, for every measurement of its images."""

    kind: Literal["denoising"] = "denoising"
    preconditioning: AnyPreconditioning = Field(EDMPreconditioning(), title="Preconditioning")
    levels: AnyLevels = Field(LogNormalLevels(), title="Noise levels")
    crop: int = Field(
        0,
        ge=0,
        description="Side of the random squares to learn from, in pixels; 0: whole images. Errors are of whole ones.",
    )

    def sizes(self, image: ImageContract) -> tuple[int, int]:
        """Sides of the images that the model learns to denoise, of such images to train on: the least and the most.

        Raises:
            UserError: if crops are larger than the images.
        """
        if self.crop > image.size:
            raise UserError(f"objective.crop={self.crop} is more than the {image.size} pixels of the images: lower it")
        return self.crop or image.size, image.size

    def build(self, network: AnyModel, image: ImageContract) -> dict[str, nn.Module]:
        """New modules, by the names of their groups, for such images."""
        _, size = self.sizes(image)
        assert not isinstance(network, ReconstructorSpec), "recipes refuse it"
        return {MODEL: ScoreModel(network.build(image.n_channels, image.n_channels), self.preconditioning, size=size)}

    def factor(self, fine_factor: int) -> int:
        """How many times finer than those of the model the images are wanted, of those that can be had."""
        return 1

    def batches(self, images: Batches, image: ImageContract) -> Batches:
        """Batches to train on, made of batches of images."""
        return CroppedBatches(images, self.crop) if self.crop else images

    def examples(self, batch: Batch, generator: torch.Generator) -> Examples:
        """Noise levels (batch,), standard normal draws, the places of crops, and the images."""
        images = batch if isinstance(batch, Tensor) else batch[1]
        places = batch[:1] if isinstance(batch, tuple) and isinstance(batch[0], Tensor) else ()
        sigma = sent(self.levels.draw(stratified(len(images), generator)), images.device)
        return sigma, normal_like(images, generator), *places, images

    def loss(self, models: Models, examples: Examples, group: str = MODEL) -> Tensor:
        """Of each image, (batch,)."""
        sigma, normal, *places, images = examples
        denoiser = partial(models[group], place=places[0]) if places else models[group]
        return denoising_loss(denoiser, images, sigma, normal, self.levels)

    def sigmas(self) -> tuple[float, ...]:
        """The noise levels that ``errors`` are of."""
        return tuple(log_uniform_sigmas(N_SIGMAS, self.levels.sigma_min, self.levels.sigma_max).tolist())

    def errors(self, model: Denoiser, images: Tensor, image: ImageContract) -> tuple[float, ...]:
        """Root mean squared error of denoised images at each of ``sigmas``, under the same noise at every call."""
        return tuple(denoising_curve(model, images, torch.tensor(self.sigmas())).tolist())
