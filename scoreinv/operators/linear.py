"""Linear operators: the measurement y = A x.

A is linear over the reals: images are real, data may be complex. The adjoint is the adjoint for the
real inner product <u, v> = Re sum conj(u) v, so <A x, y> = <x, A^H y> holds for every pair.
"""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

ProjectorName = Literal["matrix", "astra", "torch_radon"]
"""Ways to compute the line integrals of CT: see ``projectors``."""


class LinearOperator(ABC):
    """A linear map from images (batch, 1, height, width) to data (batch, *data_shape).

    Subclasses keep their tensors as attributes and write ``forward``; ``adjoint`` is derived from it
    unless a faster one is given. Everything is differentiable with respect to the image.
    """

    image_shape: tuple[int, int, int]
    data_shape: tuple[int, ...]
    direct_name: ClassVar[str] = "adjoint"
    """What people call the modality's one-step reconstruction."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Noiseless data (batch, *data_shape) of images (batch, 1, height, width)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, images (batch, 1, height, width), here as the vector-Jacobian product of ``forward``."""
        real = y.real.dtype if y.is_complex() else y.dtype
        x = torch.zeros(len(y), *self.image_shape, dtype=real, device=y.device, requires_grad=True)
        with torch.enable_grad():
            (image,) = torch.autograd.grad(self.forward(x), x, y, create_graph=y.requires_grad)
        return image

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x; override where it is cheaper than the two in a row."""
        return self.adjoint(self.forward(x))

    def direct(self, y: Tensor) -> Tensor:
        """The modality's one-step reconstruction (batch, 1, height, width), here the adjoint."""
        return self.adjoint(y)

    def with_projector(self, name: ProjectorName) -> Self:
        """The same operator with another way to compute line integrals; here itself: it has none."""
        return self

    def norm(self, *, n_iters: int = 30) -> float:
        """The largest singular value, by power iteration from a fixed start; computed once."""
        if not hasattr(self, "_norm"):
            self._norm = self._power_iteration(n_iters)
        return self._norm

    def _power_iteration(self, n_iters: int) -> float:
        x = torch.randn(1, *self.image_shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        squared = torch.ones(())
        for _ in range(n_iters):
            x = self.normal(x / x.norm())
            squared = x.norm()
        return float(squared.sqrt())

    @property
    def device(self) -> torch.device:
        """Where the operator's tensors lie."""
        tensors = [value for value in vars(self).values() if isinstance(value, Tensor)]
        return tensors[0].device if tensors else torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """The same operator with its tensors on a device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        return moved


class MaskedTransform(LinearOperator):
    """An operator A = P(mask) T with an invertible T, as Algorithm 2 of Song et al. 2022 needs it.

    The projection is used in its residual form, x + strength * T^-1 mask (y - A x), which needs only
    ``correct``. With strength 1 and an exact T the result explains the data y.
    """

    @abstractmethod
    def correct(self, residual: Tensor) -> Tensor:
        """T^-1 P^-1(mask) r: the image (batch, 1, height, width) whose transform is r on the mask and 0 off it."""

    def project(self, x: Tensor, y: Tensor, *, strength: float) -> Tensor:
        """The image near ``x`` that explains the data ``y`` to a degree: 0 leaves x, 1 replaces the data."""
        return x + strength * self.correct(y - self.forward(x))

    def as_fourier_slice(self, y: Tensor) -> tuple["MaskedTransform", Tensor]:
        """The measurement in cells of a Fourier grid (Song et al. 2022), and its data; here what they are already."""
        return self, y
