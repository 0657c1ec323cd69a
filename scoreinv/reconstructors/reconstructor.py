"""What all reconstructors share: functions from an inverse problem to its image, trained for one measurement.

A reconstructor is called as model(problem); all that is trained of it lies in its ``network``. Its training compares
what it computes with what the image says that should be: ``pairs``, here the image alone. Some compare what they
compute on the way, too: sinograms, k-space, the images of every pass.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from scoreinv.contract import ImageContract, Modality
from scoreinv.errors import UserError
from scoreinv.modality import MODALITIES
from scoreinv.problem import InverseProblem, Model
from scoreinv.spec import Spec

Pair = tuple[Tensor, Tensor]
"""What was computed and what it should be, both (batch, ...)."""


class Reconstructor(nn.Module, ABC):
    """A trained function from a problem to images; its network may run under autocast, all else is float32."""

    network: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.autocast_dtype: torch.dtype | None = None

    @abstractmethod
    def forward(self, problem: InverseProblem) -> Tensor:
        """Images (batch, n_channels, height, width), float32."""

    def pairs(self, problem: InverseProblem, images: Tensor) -> Sequence[Pair]:
        """What a training compares, values of about one size; last what a discriminator judges."""
        return [(self(problem), images)]

    def condition(self, problem: InverseProblem) -> Tensor:
        """What a discriminator sees beside what it judges, of the same shape: here the direct reconstruction."""
        return problem.operator.direct(problem.y)

    def called(self, network: nn.Module, *given: Tensor) -> Tensor:
        """network(*given) as float32, computed under autocast where that is set."""
        with torch.autocast(given[0].device.type, self.autocast_dtype, enabled=self.autocast_dtype is not None):
            result: Tensor = network(*given)
        return result.float()


class ReconstructorSpec(Spec):
    """Options of a reconstructor; ``build`` makes it."""

    label: ClassVar[str]
    """What people call the method."""
    modality: ClassVar[Modality | None] = None
    """The only one whose data it reads; None: every one."""
    kind: str = ""

    @property
    def size_multiple(self) -> int:
        """Sides of images should be multiples of this."""
        return 1

    def build(self, image: ImageContract) -> Reconstructor:
        """A new reconstructor of such images; raises as ``require``."""
        self.require(image)
        return self.built(image.n_channels)

    def require(self, image: ImageContract) -> None:
        """Refuse images whose data it does not read.

        Raises:
            UserError: if they are of another modality.
        """
        if self.modality not in (None, image.modality):
            theirs = MODALITIES[image.modality].dicom_name
            raise UserError(f"network.kind={self.kind!r} is for {self.modality} data, not {theirs}: choose another")

    @abstractmethod
    def built(self, n_channels: int) -> Reconstructor:
        """A new one for images of so many channels."""


def pairs_of(model: Model | nn.Module, problem: InverseProblem, images: Tensor) -> Sequence[Pair]:
    """As ``Reconstructor.pairs``; of any other function of a problem its image beside the true one."""
    return model.pairs(problem, images) if isinstance(model, Reconstructor) else [(model(problem), images)]


def condition_of(model: Model | nn.Module, problem: InverseProblem) -> Tensor:
    """As ``Reconstructor.condition``; of any other function of a problem the direct reconstruction."""
    return model.condition(problem) if isinstance(model, Reconstructor) else problem.operator.direct(problem.y)


class Scalars(nn.Module):
    """Numbers that are trained, called for a tensor (n,)."""

    def __init__(self, n: int, start: float) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.full((n,), start))

    def forward(self) -> Tensor:
        return self.values


def smallest(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution that gives 0 until it is trained."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
