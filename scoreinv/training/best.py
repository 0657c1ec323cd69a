"""The best average of a training: of all validations and half-lives the one that errs least on held-out images.

An error is compared by the mean of its logarithms over the noise levels, so that each level counts alike.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from scoreinv.training.ema import EMA

Errors = Mapping[int, Sequence[float]]
"""On held-out images at each noise level, of each average by its half-life."""


class Best(NamedTuple):
    """Averaged weights, their error, and when they were so."""

    error: float
    images_seen: int
    half_life: int
    weights: dict[str, Tensor]
    """The state of the averaged model, on the CPU."""


def mean_log(errors: Sequence[float]) -> float:
    """The mean logarithm of errors."""
    return sum(math.log(max(error, 1e-30)) for error in errors) / len(errors)


def best_half_life(errors: Errors) -> int:
    """Of the average that errs least."""
    return min(errors, key=lambda half_life: mean_log(errors[half_life]))


def better_of(before: Best | None, emas: Sequence[EMA[nn.Module]], errors: Errors, images_seen: int) -> Best:
    """The best average so far: one of those that have these errors now, or the one before, if it errs no more."""
    half_life = best_half_life(errors)
    error = mean_log(errors[half_life])
    if before is not None and before.error <= error:
        return before
    model = next(ema.model for ema in emas if int(ema.half_life) == half_life)
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    return Best(error, images_seen, half_life, weights)
