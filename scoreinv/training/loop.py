"""The training loop: a generator that reads from top to bottom.

Progress is counted in images seen. Every draw is seeded by (seed, rank, images seen), so a resumed run
equals an unbroken one. Logging, validation, saving and stopping belong to whoever consumes the loop.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from scoreinv.denoiser import ScoreModel
from scoreinv.errors import UserError
from scoreinv.noise import stream
from scoreinv.spec import MAX_SEED, Spec
from scoreinv.training.ema import EMA
from scoreinv.training.levels import AnyLevels, LogNormalLevels, stratified
from scoreinv.training.loss import denoising_loss

Batches = Callable[[int, torch.Generator], Tensor]
"""(batch size, generator) -> clean images (batch, 1, height, width)."""


class TrainSpec(Spec):
    """How a score model is trained."""

    n_images: int = Field(1_000_000, ge=1, description="Images seen in all.")
    batch_size: int = Field(8, ge=1, description="Over all processes; 8 learns fastest on a CPU, GPUs want more.")
    learning_rate: float = Field(1e-3, gt=0)
    beta2: float = Field(0.99, gt=0, lt=1, description="Of Adam.")
    warmup_images: int = Field(1_000, ge=0, description="The learning rate rises linearly over these.")
    decay_images: int = Field(0, ge=0, description="From here on it falls as 1/sqrt(images seen); 0: never.")
    cooldown_images: int = Field(0, ge=0, description="Over the last of n_images it falls linearly to zero.")
    clip_norm: float = Field(1.0, gt=0, description="Global norm of the gradient (after division by the image count).")
    ema_half_life: int = Field(20_000, ge=1, description="In images seen.")
    levels: AnyLevels = Field(LogNormalLevels(), title="Noise levels")
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
    """One optimiser step: mean weighted loss, norm of the gradient before clipping."""

    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float


@dataclass
class TrainState:
    """Everything that changes during training."""

    model: ScoreModel
    ema: EMA[ScoreModel]
    optimizer: torch.optim.Optimizer
    images_seen: int = 0
    images_before: int = 0
    """Those seen in an earlier training, whose weights this one started from."""

    @classmethod
    def fresh(cls, model: ScoreModel, spec: TrainSpec) -> "TrainState":
        """The state before the first step."""
        optimizer = torch.optim.Adam(model.parameters(), lr=spec.learning_rate, betas=(0.9, spec.beta2), eps=1e-8)
        return cls(model, EMA(model, half_life=spec.ema_half_life), optimizer)


def train(
    state: TrainState, batches: Batches, spec: TrainSpec, *, rank: int = 0, n_ranks: int = 1
) -> Iterator[TrainStep]:
    """Train until ``spec.n_images`` images are seen, one yield per optimiser step.

    Args:
        state: changed in place; may come from a checkpoint.
        batches: gives this process's images.
        spec: the options.
        rank: of this process.
        n_ranks: with more than one, torch.distributed must be initialised; gradients are averaged.

    Raises:
        ValueError: if the batch does not divide among the processes.
        FloatingPointError: if the loss is no longer finite; the state is still that of the step before.
    """
    if spec.batch_size % n_ranks:
        raise UserError(f"batch_size={spec.batch_size} does not divide among {n_ranks} processes: choose a multiple")
    state.model.train()
    state.model.autocast_dtype = torch.bfloat16 if spec.is_bfloat16 else None
    model: nn.Module = DistributedDataParallel(state.model) if n_ranks > 1 else state.model
    while state.images_seen < spec.n_images:
        generator = step_generator(spec.seed, rank, state.images_seen)
        rate = spec.rate(state.images_seen, images_before=state.images_before)
        loss = _loss(model, batches(spec.batch_size // n_ranks, generator), spec, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise UserError(f"the loss is {value} after {state.images_seen} images: lower learning_rate")
        norm = _optimise(state, loss, rate, spec)
        state.images_seen += spec.batch_size
        state.ema.update(state.model, images_seen=state.images_seen, n_new=spec.batch_size)
        yield TrainStep(state.images_seen, value, norm, rate)


def step_generator(seed: int, rank: int, images_seen: int) -> torch.Generator:
    """The random numbers of one process in one step."""
    return stream("training", seed, rank, images_seen)


def _loss(model: nn.Module, images: Tensor, spec: TrainSpec, generator: torch.Generator) -> Tensor:
    sigma = spec.levels.draw(stratified(len(images), generator)).to(images.device)
    normal = torch.randn(images.shape, generator=generator).to(images.device)
    return denoising_loss(model, images, sigma, normal, spec.levels).mean()


def _optimise(state: TrainState, loss: Tensor, rate: float, spec: TrainSpec) -> float:
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), spec.clip_norm)
    # One overflow in bfloat16 should not end a training of days: that step is left out, and its norm is reported.
    if bool(norm.isfinite()):
        state.optimizer.step()
    return float(norm)
