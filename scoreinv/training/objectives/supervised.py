"""Supervised learning: a reconstructor for one measurement, from images and data that are measured of them.

    loss = l1_share mean |R(y) - x0| + (1 - l1_share) mean |R(y) - x0|^2,    y = A x0 + noise

Some reconstructors compare more than their image (``Reconstructor.pairs``): the loss is then the sum over all of it.

Every time an image is drawn it is measured anew, with its noise from the random numbers of the step.
"""

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from scoreinv.contract import ImageContract
from scoreinv.noise import Noise
from scoreinv.operators import AnyMeasurement
from scoreinv.problem import Model
from scoreinv.reconstructors import AnyModel, reconstructor_of
from scoreinv.reconstructors.reconstructor import Pair, pairs_of
from scoreinv.training.data import Batches, MeasuredBatches, measured
from scoreinv.training.loss import N_AT_ONCE
from scoreinv.training.objectives.objective import MODEL, Examples, Models, Objective


class Supervised(Objective):
    """A network that makes the image of a measurement's data."""

    kind: Literal["supervised"] = "supervised"
    version: ClassVar[int] = 2
    measurement: AnyMeasurement = Field(title="Measurement", description="The one and only that the model is for.")
    uses_fine_images: bool = Field(
        False, description="Measure the finer images where the data sets hold them, as studies can do."
    )
    l1_share: float = Field(
        1.0, ge=0, le=1, description="1: mean absolute error; 0: mean squared error; between: a mix."
    )

    def build(self, network: AnyModel, image: ImageContract) -> dict[str, nn.Module]:
        """As ``Denoising.build``."""
        return {MODEL: reconstructor_of(network, image)}

    def factor(self, fine_factor: int) -> int:
        """As ``Denoising.factor``."""
        return fine_factor if self.uses_fine_images else 1

    def batches(self, images: Batches, image: ImageContract) -> Batches:
        """As ``Denoising.batches``: problems and the images that solve them."""
        return MeasuredBatches(images, self.measurement, image)

    def loss(self, models: Models, examples: Examples, group: str = MODEL) -> Tensor:
        """Of each image, (batch,)."""
        problem, images = examples
        return self.distance(pairs_of(models[group], problem, images))

    def distance(self, pairs: Sequence[Pair]) -> Tensor:
        """The loss of each of the reconstructions by what was computed and what it should be, (batch,)."""
        return torch.stack([self._distance(made - wanted) for made, wanted in pairs]).sum(0)

    def _distance(self, error: Tensor) -> Tensor:
        error = error.flatten(1)
        return self.l1_share * error.abs().mean(1) + (1 - self.l1_share) * error.square().mean(1)

    def sigmas(self) -> tuple[float, ...]:
        """As ``Denoising.sigmas``: none, as ``errors`` is one number."""
        return ()

    @torch.no_grad()
    def errors(self, model: Model, images: Tensor, image: ImageContract) -> tuple[float, ...]:
        """Root mean squared error of the reconstructions, under the same noise at every call."""
        names = [str(place) for place in range(len(images))]
        problem, truth = measured(images, self.measurement, image, Noise(0, names))
        places = torch.split(torch.arange(len(truth), device=truth.device), N_AT_ONCE)
        squares = sum(float((model(problem.part(p)) - truth[p]).square().sum()) for p in places)
        return (math.sqrt(squares / truth.numel()),)
