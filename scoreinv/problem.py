"""The inverse problem, and what every method that solves it looks like.

A method is a Spec (its fields are what a person may set) with one loop, ``steps``, that yields.
Progress, saving and stopping belong to whoever consumes the loop. Samplers and baselines share this
interface, so a benchmark is a list and a loop.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.operators.linear import LinearOperator
from scoreinv.spec import Spec


class InverseProblem:
    """Find x in y = A x + noise, for a batch of images.

    Attributes:
        operator: A.
        y: data (batch, *operator.data_shape).
        noise_std: standard deviation of the noise of each image's data, per real component (batch,).
    """

    def __init__(self, operator: LinearOperator, y: Tensor, noise_std: Tensor | float = 0.0) -> None:
        """Take data and the noise they have: one level for each image (batch,), or one number for all.

        Raises:
            ValueError: if the data are of another operator, or the levels are not one for each image.
        """
        if tuple(y.shape[1:]) != tuple(operator.data_shape):
            raise ValueError(
                f"data have shape {tuple(y.shape[1:])} but the operator measures {operator.data_shape}: "
                "use the operator that belongs to these data"
            )
        self.operator = operator
        self.y = y
        self.noise_std = _per_image(noise_std, y)

    @property
    def image_batch_shape(self) -> tuple[int, ...]:
        """(batch, 1, height, width) of the images that are looked for."""
        return (len(self.y), *self.operator.image_shape)

    def residual(self, x: Tensor) -> Tensor:
        """y - A x."""
        return self.y - self.operator.forward(x)

    def part(self, places: Tensor) -> "InverseProblem":
        """The problem of the images in some places of the batch, each as often as it is named."""
        return InverseProblem(self.operator, self.y[places], self.noise_std[places])

    def with_noise_std(self, noise_std: Tensor | float) -> "InverseProblem":
        """The same data, taken to have other noise."""
        return InverseProblem(self.operator, self.y, noise_std)


def _per_image(noise_std: Tensor | float, y: Tensor) -> Tensor:
    """Noise levels (batch,) as real numbers of the precision and on the device of the data."""
    levels = torch.as_tensor(noise_std).to(y.device, y.real.dtype)
    if tuple(levels.shape) not in ((), (len(y),)):
        raise ValueError(
            f"noise_std has shape {tuple(levels.shape)} for {len(y)} images: give one level for each, or one number"
        )
    if not bool((levels >= 0).all()) or not bool(levels.isfinite().all()):
        raise ValueError(f"noise_std must be finite and at least 0, got {levels.tolist()}: measure the data again")
    return levels.expand(len(y))


class Step(NamedTuple):
    """One step of a method: the current image (batch, 1, height, width), its noise level, the calls so far."""

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

    label: ClassVar[str]
    """What people call the method."""
    needs: ClassVar[Needs] = "prior"
    is_stochastic: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_calls(self) -> int:
        """How often the denoiser is called for one image; 0 for a method without one."""

    @abstractmethod
    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        """Yield the steps; the last one holds the result."""


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
    for step in method.steps(problem, counted, noise):
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
