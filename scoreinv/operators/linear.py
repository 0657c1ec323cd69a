"""Linear operators: the measurement y = A x.

A is linear over the reals: images are real, with one channel or more (a complex image has two: its real and its
imaginary part), data may be complex. The adjoint is the adjoint for the real inner product
<u, v> = Re sum conj(u) v, so <A x, y> = <x, A^H y> holds for every pair.

Usually one operator serves all images of a batch. Where it differs from image to image (a mask for each slice, coil
sensitivities), the tensors that differ have the batch as their first axis, and ``per_image`` names them.
"""

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from scoreinv.linalg import norms, spread

N_PROBES = 2

ProjectorName = Literal["matrix", "astra", "torch_radon"]
"""Ways to compute the line integrals of CT: see ``projectors``."""


class LinearOperator(ABC):
    """A linear map from images (batch, n_channels, height, width) to data (batch, *data_shape).

    Subclasses keep their tensors as attributes and write ``forward``; ``adjoint`` is derived from it
    unless a faster one is given. Everything is differentiable with respect to the image.
    """

    image_shape: tuple[int, int, int]
    """(n_channels, height, width)."""
    data_shape: tuple[int, ...]
    is_complex: bool = False
    """Whether the data are."""
    per_image: ClassVar[tuple[str, ...]] = ()
    """The attributes whose first axis is that of the batch; 1 long, they serve all images."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Noiseless data (batch, *data_shape) of images (batch, n_channels, height, width)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """A^H y, images (batch, n_channels, height, width), here as the vector-Jacobian product of ``forward``."""
        real = y.real.dtype if y.is_complex() else y.dtype
        x = torch.zeros(len(y), *self.image_shape, dtype=real, device=y.device, requires_grad=True)
        with torch.enable_grad():
            (image,) = torch.autograd.grad(self.forward(x), x, y, create_graph=y.requires_grad)
        return image

    def normal(self, x: Tensor) -> Tensor:
        """A^H A x; override where it is cheaper than the two in a row."""
        return self.adjoint(self.forward(x))

    def direct(self, y: Tensor) -> Tensor:
        """The modality's one-step reconstruction (batch, n_channels, height, width), here the adjoint."""
        return self.adjoint(y)

    def start(self, y: Tensor) -> Tensor:
        """The image that iterations begin with (batch, n_channels, height, width), here the direct reconstruction.

        Override where that shows what cannot be there.
        """
        return self.direct(y)

    def simulate(self, fine: Tensor) -> Tensor:
        """Noiseless data of images on a grid that is finer by a whole factor; here of their means over blocks.

        Override where the scanner sees more than these means, so that data are not made by what inverts them.
        """
        return self.forward(avg_pool2d(fine, fine.shape[-1] // self.image_shape[-1]))

    def with_projector(self, name: ProjectorName) -> Self:
        """The same operator with another way to compute line integrals; here itself: it has none."""
        return self

    def norm(self, *, n_iters: int = 30) -> Tensor:
        """The largest singular value, one for all images (1,) or one each (batch,).

        By power iteration from a fixed start; computed once.
        """
        if self._norm is None:
            self._norm = self._power_iteration(n_iters)
        return self._norm

    _norm: Tensor | None = None

    def _power_iteration(self, n_iters: int) -> Tensor:
        x = torch.randn(1, *self.image_shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        x, squared = x.expand(self.n_images, *self.image_shape), torch.ones(self.n_images)
        for _ in range(n_iters):
            x = self.normal(x / norms(x).clamp_min(1e-30))
            squared = norms(x).flatten()
        return squared.sqrt()

    def column_norm(self) -> Tensor:
        """The root mean square of the norms of A's columns, one for all images (1,) or one each (batch,).

        White noise of deviation 1 leaves so much in a pixel of A^H n. From two images of noise, the same at every call;
        computed once.
        """
        if self._column_norm is None:
            x = torch.randn(N_PROBES, *self.image_shape, generator=torch.Generator().manual_seed(0)).to(self.device)
            squares = [
                (norms(self.forward(one.expand(self.n_images, *self.image_shape))) / one.norm()).flatten().square()
                for one in x
            ]
            self._column_norm = torch.stack(squares).mean(0).sqrt()
        return self._column_norm

    _column_norm: Tensor | None = None

    def mean_over_rays(self, values: Tensor) -> Tensor:
        """For each pixel the mean of values above 0 of the data (batch, *data_shape) over those that see it.

        Broadcasts to images; here the mean over all data, as if each saw every pixel.
        """
        return spread(values.flatten(1).mean(1), values.new_empty(0, 1, 1, 1))

    def preconditioner(self, weight: Tensor) -> Tensor | float:
        """M^-1 of a diagonal M that resembles A^H A + weight; 1 where M would be nearly the same everywhere.

        Args:
            weight: (batch, 1, 1, 1).
        """
        return 1.0

    @property
    def n_images(self) -> int:
        """Of how many images this is the operator, one after the other; 1 if it serves all."""
        values = [getattr(self, name) for name in self.per_image]
        return max([len(value) for value in values if value is not None], default=1)

    def part(self, places: Tensor) -> Self:
        """The operator of the images in some places of the batch; the same one if it serves all."""
        if self.n_images == 1:
            return self
        chosen = copy.copy(self)
        for name in (*self.per_image, "_norm", "_column_norm"):
            value = getattr(self, name)
            if value is not None and len(value) > 1:
                setattr(chosen, name, value[places])
        return chosen

    @property
    def device(self) -> torch.device:
        """Where the operator's tensors lie."""
        tensors = [value for value in vars(self).values() if isinstance(value, Tensor)]
        return tensors[0].device if tensors else torch.device("cpu")

    def to(self, device: torch.device | str) -> Self:
        """The same operator with its tensors on a device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor | LinearOperator):
                setattr(moved, name, value.to(device))
        return moved


class Weighted(LinearOperator):
    """W A, with a weight for every number of the data: how noise that differs from ray to ray is made white.

    Args:
        operator: A.
        weights: (batch, *data_shape), real and above 0.
    """

    per_image = ("weights", "_local")
    _local: Tensor | None = None

    def __init__(self, operator: LinearOperator, weights: Tensor) -> None:
        self.weights = weights
        self.operator = operator
        self.image_shape = operator.image_shape
        self.data_shape = operator.data_shape
        self.is_complex = operator.is_complex

    def forward(self, x: Tensor) -> Tensor:
        return self.weights * self.operator.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.operator.adjoint(self.weights * y)

    def direct(self, y: Tensor) -> Tensor:
        """Of the data without their weights: a direct inverse knows no noise."""
        return self.operator.direct(y / self.weights)

    def start(self, y: Tensor) -> Tensor:
        """As ``direct``."""
        return self.operator.start(y / self.weights)

    def preconditioner(self, weight: Tensor) -> Tensor | float:
        """From the approximation A^H W^2 A = D A^H A D with D^2 the mean of W^2 over the rays through a pixel.

        (Fessler and Rogers 1996, doi:10.1109/83.535846.) Without it conjugate gradients spend their first steps on the
        air at the border, whose rays weigh a hundred times as much as those through the body.
        """
        if self._local is None:
            self._local = self.operator.mean_over_rays(self.weights.square())
        return 1 / (self._local * spread(self.operator.norm(), weight) ** 2 + weight)

    def part(self, places: Tensor) -> Self:
        chosen = super().part(places)
        chosen.operator = self.operator.part(places)
        return chosen


class MaskedTransform(LinearOperator):
    """An operator A = P(mask) T with an invertible T, as Algorithm 2 of Song et al. 2022 needs it.

    The projection is used in its residual form, x + strength * T^-1 mask (y - A x), which needs only
    ``correct``. With strength 1 and an exact T the result explains the data y.
    """

    @abstractmethod
    def correct(self, residual: Tensor) -> Tensor:
        """T^-1 P^-1(mask) r: images (batch, n_channels, height, width) with the transform r on the mask, 0 off it."""

    def approximate_inverse(self, residual: Tensor) -> Tensor:
        """C r, images with A C r near r, so that x + C (y - A x) explains the data in a few rounds, and never diverges.

        Here ``correct``, which does so in one round where T is exact.
        """
        return self.correct(residual)

    def project(self, x: Tensor, y: Tensor, *, strength: float) -> Tensor:
        """The image near ``x`` that explains the data ``y`` to a degree: 0 leaves x, 1 replaces the data."""
        return x + strength * self.correct(y - self.forward(x))

    def as_fourier_slice(self, y: Tensor) -> tuple["MaskedTransform", Tensor]:
        """The measurement in cells of a Fourier grid (Song et al. 2022), and its data; here what they are already."""
        return self, y
