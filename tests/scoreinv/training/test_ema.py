"""The moving average halves what is left of the past in every half-life."""

import pytest
import torch
from torch import nn

from scoreinv.training.ema import EMA


def constant(value: float) -> nn.Linear:
    model = nn.Linear(2, 2)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model.double()


def value_of(ema: EMA[nn.Linear]) -> float:
    values = torch.cat([parameter.flatten() for parameter in ema.model.parameters()])
    assert float(values.min()) == float(values.max())
    return float(values[0])


@pytest.mark.parametrize("n_new", [1, 10, 50, 100])
def test_half_of_the_start_is_left_after_a_half_life(n_new: int) -> None:
    ema, target = EMA(constant(0.0), half_life=100), constant(1.0)
    for step in range(100 // n_new):
        ema.update(target, images_seen=10_000 + step * n_new, n_new=n_new)
    assert value_of(ema) == pytest.approx(0.5, rel=1e-12)


def test_early_on_the_half_life_is_a_tenth_of_the_images_seen() -> None:
    ema = EMA(constant(0.0), half_life=1e9)
    ema.update(constant(1.0), images_seen=1000, n_new=100)
    assert value_of(ema) == pytest.approx(0.5, rel=1e-12)


def test_the_start_is_a_copy_that_is_not_trained() -> None:
    model = constant(3.0)
    ema = EMA(model, half_life=100)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    assert value_of(ema) == 3.0
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())


def test_buffers_are_copied_not_averaged() -> None:
    model = nn.BatchNorm1d(3)
    ema = EMA(model, half_life=100)
    model(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 5)
    ema.update(model, images_seen=10_000, n_new=1)
    assert torch.equal(ema.model.running_mean, model.running_mean)
    assert int(ema.model.num_batches_tracked) == 1
