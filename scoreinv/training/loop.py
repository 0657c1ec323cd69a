"""The training loop: a generator that reads from top to bottom.

Progress is counted in images seen. Every draw is seeded by (seed, rank, images seen), so a resumed run
equals an unbroken one. Logging, validation, saving and stopping belong to whoever consumes the loop.

What is trained, and towards what, is the objective's: one or more modules, each with an optimiser of its own.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from scoreinv.errors import UserError
from scoreinv.noise import stream
from scoreinv.spec import MAX_SEED, Spec
from scoreinv.training.best import Best
from scoreinv.training.data import Batches
from scoreinv.training.ema import EMA
from scoreinv.training.objectives.objective import MODEL, Examples, Models, Objective

LOOK_STEPS = 50
"""On a GPU the loss is looked at in so many steps once: to read a number is to wait for all that was begun."""


class TrainSpec(Spec):
    """How a model is trained."""

    n_images: int = Field(1_000_000, ge=1, description="Images seen in all.")
    batch_size: int = Field(8, ge=1, description="Over all processes; 8 learns fastest on a CPU, GPUs want more.")
    learning_rate: float = Field(1e-3, gt=0)
    beta2: float = Field(0.99, gt=0, lt=1, description="Of Adam.")
    warmup_images: int = Field(1_000, ge=0, description="The learning rate rises linearly over these.")
    decay_images: int = Field(0, ge=0, description="From here on it falls as 1/sqrt(images seen); 0: never.")
    cooldown_images: int = Field(0, ge=0, description="Over the last of n_images it falls linearly to zero.")
    clip_norm: float = Field(1.0, gt=0, description="Global norm of the gradient (after division by the image count).")
    ema_half_life: int = Field(20_000, ge=1, description="In images seen.")
    more_half_lives: tuple[PositiveInt, ...] = Field(
        (), description="Of further averages; the one that is best on held-out subjects is published."
    )
    keeps_best: bool = Field(
        False,
        description="Publish the average of the validation that was best on held-out subjects, not that of the last.",
    )
    is_bfloat16: bool = Field(True, description="Run the network under bfloat16 autocast; weights stay float32.")
    seed: int = Field(0, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _phases_fit_into_the_training(self) -> "TrainSpec":
        if self.cooldown_images > self.n_images:
            raise ValueError(f"cooldown_images={self.cooldown_images} is more than n_images={self.n_images}: lower it")
        # The default may be too long for a trial, which then ends while it warms up.
        is_default = self.warmup_images == type(self).model_fields["warmup_images"].default
        if self.warmup_images > self.n_images and not is_default:
            raise ValueError(f"warmup_images={self.warmup_images} is more than n_images={self.n_images}: lower it")
        return self

    def has_parted(self, images_seen: int) -> bool:
        """Whether a training of another length could not have come to this state.

        It could until the first step of the cooldown, and until the last step where there is none.
        """
        return images_seen - self.batch_size > self.n_images - max(self.cooldown_images, 1)

    def rate(self, images_seen: int, *, images_before: int = 0) -> float:
        """The learning rate after so many images, of which the network had seen some before its optimiser was new."""
        warm = min(1.0, (images_seen - images_before + self.batch_size) / max(self.warmup_images, 1))
        decay = math.sqrt(self.decay_images / images_seen) if 0 < self.decay_images < images_seen else 1.0
        cooldown = min(1.0, (self.n_images - images_seen) / max(self.cooldown_images, 1))
        return self.learning_rate * warm * decay * cooldown


class TrainStep(NamedTuple):
    """One step: of each group its mean loss and the norm of its gradient before clipping.

    Losses and norms are tensors without axes where the models are: who reads one waits for it.
    """

    images_seen: int
    losses: dict[str, Tensor]
    gradient_norms: dict[str, Tensor]
    learning_rate: float

    @property
    def loss(self) -> Tensor:
        """That of the model that is published."""
        return self.losses[MODEL]

    @property
    def gradient_norm(self) -> Tensor:
        """That of the model that is published."""
        return self.gradient_norms[MODEL]


@dataclass
class TrainState:
    """Everything that changes during training."""

    models: dict[str, nn.Module]
    """By the names of their groups, in the order in which they learn."""
    emas: tuple[EMA[nn.Module], ...]
    """Averages of the one that is published."""
    optimizers: dict[str, torch.optim.Optimizer]
    images_seen: int = 0
    images_before: int = 0
    """Those seen in an earlier training, whose weights this one started from."""
    best: Best | None = None
    """The best average so far, kept by whoever validates."""

    @classmethod
    def fresh(cls, models: Mapping[str, nn.Module], spec: TrainSpec) -> "TrainState":
        """The state before the first step.

        Raises:
            ValueError: if none of the modules is called "model", the one that is validated and published.
        """
        if MODEL not in models:
            raise ValueError(f"models are called {', '.join(models)}: call the one to publish {MODEL!r}")
        emas = tuple(EMA(models[MODEL], half_life=one) for one in (spec.ema_half_life, *spec.more_half_lives))
        return cls(dict(models), emas, {name: _adam(model, spec) for name, model in models.items()})

    @property
    def model(self) -> nn.Module:
        """The one that is published, as it is now."""
        return self.models[MODEL]

    @property
    def ema(self) -> EMA[nn.Module]:
        """The average of the first half-life."""
        return self.emas[0]


def _adam(model: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    # On a GPU the fused one can leave a step out without being waited for.
    is_fused = True if next(model.parameters()).is_cuda else None
    return torch.optim.Adam(
        model.parameters(), lr=spec.learning_rate, betas=(0.9, spec.beta2), eps=1e-8, fused=is_fused
    )


def train(
    state: TrainState,
    batches: Batches,
    objective: Objective,
    spec: TrainSpec,
    *,
    rank: int = 0,
    n_ranks: int = 1,
    n_at_once: int = 0,
) -> Iterator[TrainStep]:
    """Train until ``spec.n_images`` images are seen, one yield per step.

    Args:
        state: changed in place; may come from a checkpoint.
        batches: gives this process's images, or problems with their images.
        objective: the loss of each of the state's models.
        spec: the options.
        rank: of this process.
        n_ranks: with more than one, torch.distributed must be initialised; gradients are averaged.
        n_at_once: images that go through the network at once, of which gradients are summed up; 0: this process's
            part of the batch. It decides memory, not the result, apart from rounding; where the memory of a GPU is
            not enough it is halved.

    Raises:
        ValueError: if the batch does not divide among the processes, or a loss is no longer finite, from which no step
            is then made (on a GPU it is noticed some steps later, and these are left out).
        MemoryError: if not even one image at a time fits into the memory of a GPU.
    """
    if spec.batch_size % n_ranks:
        raise UserError(f"batch_size={spec.batch_size} does not divide among {n_ranks} processes: choose a multiple")
    _prepare(state.models, spec)
    n = spec.batch_size // n_ranks
    n_at_once = min(n_at_once, n) or n
    while state.images_seen < spec.n_images:
        generator = step_generator(spec.seed, rank, state.images_seen)
        rate = spec.rate(state.images_seen, images_before=state.images_before)
        examples = objective.examples(batches(n, generator), generator)
        losses, norms = dict[str, Tensor](), dict[str, Tensor]()
        for group, optimizer in state.optimizers.items():
            losses[group], n_at_once = _differentiate(objective, state.models, examples, group, n_at_once)
            _refuse_infinite(losses[group], state.images_seen, spec)
            norms[group] = _descend(optimizer, state.models[group], rate, spec.clip_norm, n_ranks)
        state.images_seen += spec.batch_size
        for ema in state.emas:
            ema.update(state.model, images_seen=state.images_seen, n_new=spec.batch_size)
        yield TrainStep(state.images_seen, losses, norms, rate)


def step_generator(seed: int, rank: int, images_seen: int) -> torch.Generator:
    """The random numbers of one process in one step."""
    return stream("training", seed, rank, images_seen)


def _prepare(models: Models, spec: TrainSpec) -> None:
    for model in models.values():
        model.train()
        # Models that know what of them may run so have this attribute.
        if hasattr(model, "autocast_dtype"):
            model.autocast_dtype = torch.bfloat16 if spec.is_bfloat16 else None  # type: ignore[assignment]


def _differentiate(
    objective: Objective, models: Models, examples: Examples, group: str, n_at_once: int
) -> tuple[Tensor, int]:
    """The mean loss, its gradient left in the group's parameters, and how many examples fitted into memory at once."""
    parameters = _trained(models[group])
    while True:
        for parameter in parameters:
            parameter.grad = None
        try:
            total = torch.zeros((), device=parameters[0].device)
            for part, share in _parts(examples, n_at_once):
                loss = objective.loss(models, part, group).mean() * share
                loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
                total += loss.detach()
            return total, n_at_once
        except torch.cuda.OutOfMemoryError:
            if n_at_once == 1:
                raise MemoryError(
                    "one image at a time does not fit into the GPU's memory: take a smaller network or a larger GPU"
                ) from None
            torch.cuda.empty_cache()
            n_at_once = -(-n_at_once // 2)


def _parts(examples: Examples, n_at_once: int) -> Iterator[tuple[Examples, float]]:
    """The examples in parts of at most so many, with each one's share of all."""
    n = len(examples[-1])
    if n_at_once >= n:
        yield examples, 1.0
        return
    for places in torch.split(torch.arange(n, device=examples[-1].device), n_at_once):
        part = tuple(one[places] if isinstance(one, Tensor) else one.part(places) for one in examples)
        yield part, len(places) / n


def _refuse_infinite(loss: Tensor, images_seen: int, spec: TrainSpec) -> None:
    is_looked_at = not loss.is_cuda or images_seen // spec.batch_size % LOOK_STEPS == 0
    if is_looked_at and not math.isfinite(value := float(loss)):
        raise UserError(f"the loss is {value} after {images_seen} images: lower learning_rate")


def _descend(optimizer: torch.optim.Optimizer, model: nn.Module, rate: float, clip_norm: float, n_ranks: int) -> Tensor:
    """One step of an optimiser along gradients that are there; their norm before they are clipped."""
    for options in optimizer.param_groups:
        options["lr"] = rate
    parameters = _trained(model)
    if n_ranks > 1:
        _average([parameter.grad for parameter in parameters if parameter.grad is not None])
    norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    # One overflow in bfloat16 should not end a training of days: that step is left out, and its norm is reported.
    if norm.is_cuda:
        optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif bool(norm.isfinite()):
        optimizer.step()
    return norm


def _average(gradients: Sequence[Tensor]) -> None:
    """The mean over all processes, in place.

    By hand and in one message: torch's wrapper knows one backward pass through one forward, and here are parts of
    batches and several models. Buffers stay each process's own; the networks here have none that change.
    """
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
