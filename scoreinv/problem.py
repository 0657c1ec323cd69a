"""The inverse problem, and what every method that solves it looks like.

A method is a Spec (its fields are what a person may set) with one loop, ``steps``, that yields.
Progress, saving and stopping belong to whoever consumes the loop. Samplers and baselines share this
interface, so a benchmark is a list and a loop.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.denoiser import Denoiser
from scoreinv.linalg import spread
from scoreinv.measurement import Measured, MeasurementSpec
from scoreinv.noise import Noise
from scoreinv.operators.linear import LinearOperator, ProjectorName, Weighted
from scoreinv.spec import Spec

LEAST_DEVIATION = 0.5
"""Of a ray, relative to the root of the mean variance of its image: rays through air alone count as no better than so.

They are off by the grid's error, too, and the more weights differ, the slower is the data step. Between 0.25 and 0.5
the preset changes by 0.15 dB at 1e5 photons and by 0.02 dB at 1e4 (held-out people of the training)."""


class InverseProblem:
    """Find x in y = A x + noise, for a batch of images.

    Attributes:
        operator: A.
        y: data (batch, *operator.data_shape).
        noise_std: standard deviation of the noise per real component, of each image's data (batch,) or of each of
            their numbers (batch, *operator.data_shape).
        is_exact: whether y = A x but for noise: of data simulated from images on the very grid of x, never of nature's.
    """

    def __init__(
        self, operator: LinearOperator, y: Tensor, noise_std: Tensor | float = 0.0, *, is_exact: bool = False
    ) -> None:
        """Take data and the noise they have; one number serves for all.

        Raises:
            ValueError: if the data are of another operator, or the noise is not of these data.
        """
        if tuple(y.shape[1:]) != tuple(operator.data_shape):
            raise ValueError(
                f"data have shape {tuple(y.shape[1:])} but the operator measures {operator.data_shape}: "
                "use the operator that belongs to these data"
            )
        self.operator = operator
        self.y = y
        self.noise_std = _levels(noise_std, y)
        self.is_exact = is_exact

    @classmethod
    def of(
        cls, spec: MeasurementSpec, measured: Measured, image: ImageContract, *, projector: ProjectorName = "matrix"
    ) -> Self:
        """The problem to find the images that were measured; on the device of the data."""
        operator = spec.operator(image.size, measured.context, n_channels=image.n_channels)
        matched, data = spec.matched(operator.with_projector(projector).to(measured.y.device), measured)
        # Data always come from the matrix: another projector does not explain them to the last digit.
        is_exact = spec.is_linear and measured.fine_factor == 1 and projector == "matrix"
        return cls(matched, data.y, data.noise_std, is_exact=is_exact)

    def residual(self, x: Tensor) -> Tensor:
        """y - A x."""
        return self.y - self.operator.forward(x)

    def part(self, places: Tensor) -> "InverseProblem":
        """The problem of the images in some places of the batch, each as often as it is named."""
        return self._with(self.operator.part(places), self.y[places], self.noise_std[places])

    def noise_of_step(self) -> Tensor:
        """How much noise a gradient step of length 1 / |A|^2 puts into a pixel, (batch,): that of A^H n / |A|^2.

        It decides how strong a regularisation should be, for every operator and noise alike. Of white noise.
        """
        level = self.noise_std if self.noise_std.ndim == 1 else self.noise_std.flatten(1).square().mean(1).sqrt()
        return level * self.operator.column_norm() / self.operator.norm() ** 2

    def with_noise_std(self, noise_std: Tensor | float) -> "InverseProblem":
        """The same data, taken to have other noise."""
        return self._with(self.operator, self.y, noise_std)

    def with_floor(self, floor: float) -> "InverseProblem":
        """The same data, whose noise counts as ``floor`` times the norm of A at least.

        In these units a floor is noise of the image, and means the same for every operator. It stands for what the
        data are off by though no noise says so: a scanner is not our matrix.
        """
        if floor == 0:
            return self
        return self.with_noise_std(self.noise_std.maximum(floor * spread(self.operator.norm(), self.noise_std)))

    def whitened(self) -> "InverseProblem":
        """The same problem with noise of one deviation for each image, the root of the mean variance of its rays.

        Where it differs from ray to ray, A and y are divided by the deviation of each, relative to that mean.
        """
        if self.noise_std.ndim == 1:
            return self
        mean = self.noise_std.flatten(1).square().mean(1).sqrt()
        relative = self.noise_std / spread(mean.clamp_min(torch.finfo(mean.dtype).tiny), self.noise_std)
        weights = 1 / torch.where(spread(mean, relative) > 0, relative.clamp_min(LEAST_DEVIATION), 1.0)
        return self._with(Weighted(self.operator, weights), weights * self.y, mean)

    def _with(self, operator: LinearOperator, y: Tensor, noise_std: Tensor | float) -> "InverseProblem":
        return InverseProblem(operator, y, noise_std, is_exact=self.is_exact)


def _levels(noise_std: Tensor | float, y: Tensor) -> Tensor:
    """Noise levels (batch,) or (batch, *data_shape), real, in the precision and on the device of the data."""
    levels = torch.as_tensor(noise_std).to(y.device, y.real.dtype)
    if tuple(levels.shape) not in ((), (len(y),), tuple(y.shape)):
        raise ValueError(
            f"noise_std has shape {tuple(levels.shape)} for {len(y)} images with data {tuple(y.shape[1:])}: give one "
            "number, one for each image, or one for each number of the data"
        )
    if not bool((levels >= 0).all()) or not bool(levels.isfinite().all()):
        bad = levels[~((levels >= 0) & levels.isfinite())].flatten()[:3].tolist()
        raise ValueError(f"noise_std must be finite and at least 0, got {bad}: measure the data again")
    return levels if levels.ndim else levels.expand(len(y))


class Step(NamedTuple):
    """One step of a method: the current image (batch, n_channels, height, width), its level, the calls so far."""

    index: int  # type: ignore[assignment]
    sigma: float
    x: Tensor
    nfe: int = 0


Needs = Literal["nothing", "prior", "reconstructor"]
"""Which trained model a method calls: one of images alone (a denoiser), or one that was trained for a measurement."""

Model = Callable[..., Tensor]
"""A prior is called as model(x, sigma), a reconstructor as model(problem); both give images (batch, channels, h, w)."""


class Method(Spec):
    """Anything that goes from an inverse problem to an image."""

    kind: str = ""
    """By which recipes name the method."""
    label: ClassVar[str]
    """What people call the method."""
    needs: ClassVar[Needs] = "prior"
    is_stochastic: ClassVar[bool] = True
    is_weighted: ClassVar[bool] = True
    """Whether noise that differs from ray to ray is made white for it; else it sees the data as they are."""

    @property
    @abstractmethod
    def n_calls(self) -> int:
        """How often the denoiser is called for one image; 0 for a method without one."""

    @abstractmethod
    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        """Yield the steps; the last one holds the result."""

    def prepared(self, problem: InverseProblem) -> InverseProblem:
        """The problem as the method takes it."""
        return problem.whitened() if self.is_weighted else problem

    def seen(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser as the method calls it."""
        return denoiser


class CountedModel:
    """A model that counts its calls: the one place where NFE is counted."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.nfe = 0

    def __call__(self, *given: Tensor | InverseProblem) -> Tensor:
        self.nfe += 1
        return self.model(*given)


def run(method: Method, problem: InverseProblem, model: Model | None = None, *, noise: Noise) -> Iterator[Step]:
    """Yield a method's steps with the number of network calls filled in.

    Raises:
        ValueError: if the method needs a model and none is given, or the noise is for another batch.
    """
    if model is None and method.needs != "nothing":
        raise ValueError(f"{type(method).__name__} needs a {method.needs}: pass one")
    if len(noise) != len(problem.y):
        raise ValueError(f"noise for {len(noise)} images was given with data of {len(problem.y)}")
    counted = CountedModel(model or _no_model)
    for step in method.steps(method.prepared(problem), method.seen(counted), noise):
        yield step._replace(nfe=counted.nfe)


def reconstruct(method: Method, problem: InverseProblem, model: Model | None = None, *, noise: Noise) -> Step:
    """The last step of a method: its result ``x`` and the network calls ``nfe`` it took."""
    last: Step | None = None
    for step in run(method, problem, model, noise=noise):
        last = step
    if last is None:
        raise ValueError(f"{method!r} yielded no step: give it at least one")
    return last


def _no_model(*given: Tensor | InverseProblem) -> Tensor:
    raise TypeError("this method was declared to need no trained model")
