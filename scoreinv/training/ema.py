"""Exponential moving average of weights, with a half-life in images seen."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)


class EMA(Generic[ModelT]):
    """A slowly following copy of a model; the copy is used for everything at test time."""

    def __init__(self, model: ModelT, *, half_life: float, ramp: float = 0.1) -> None:
        """Start at the model's weights.

        Args:
            model: the model that is trained.
            half_life: in images seen.
            ramp: the half-life is at most this share of the images seen so far, so that the noise of the
                beginning is forgotten (Karras et al. 2022).
        """
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life = half_life
        self.ramp = ramp

    @torch.no_grad()
    def update(self, model: ModelT, *, images_seen: int, n_new: int) -> None:
        """Follow the model after a step over ``n_new`` images."""
        half_life = min(self.half_life, max(self.ramp * images_seen, 1e-9))
        weight = 1 - 0.5 ** (n_new / half_life)
        averaged, current = list[Tensor](self.model.parameters()), list[Tensor](model.parameters())
        torch._foreach_lerp_(averaged, current, weight)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
