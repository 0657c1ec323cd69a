"""The best average is kept, whatever comes after it, and through a checkpoint."""

import torch

from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.unet import UNet
from scoreinv.training.best import better_of, mean_log
from scoreinv.training.checkpoint import build_model, checkpoint_bytes, restore
from scoreinv.training.loop import TrainSpec, TrainState
from scoreinv.training.objectives import MODEL

NETWORK = UNet(patch=1, n_features=8, channel_multipliers=(1,), n_blocks=1, n_middle=0)
SPEC = TrainSpec(ema_half_life=100, more_half_lives=(10,), keeps_best=True)


def fresh() -> TrainState:
    return TrainState.fresh({MODEL: build_model(NETWORK, EDMPreconditioning())}, SPEC)


def test_the_average_with_the_least_error_of_all_validations_is_kept() -> None:
    state = fresh()
    curve = [{100: (0.2, 0.2), 10: (0.2, 0.3)}, {100: (0.3, 0.3), 10: (0.001, 30.0)}, {100: (0.1, 0.4), 10: (0.5, 0.5)}]
    for seen, errors in enumerate(curve, start=1):
        with torch.no_grad():
            for ema in state.emas:
                ema.model.network.head.bias.fill_(seen * ema.half_life)  # type: ignore[union-attr]
        state.best = better_of(state.best, state.emas, errors, seen)
    assert state.best is not None
    # In the mean of the logarithms: 0.2, then 0.17, then again 0.2.
    assert (state.best.images_seen, state.best.half_life) == (2, 10)
    assert state.best.error == mean_log((0.001, 30.0))
    assert float(state.best.weights["network.head.bias"]) == 20
    again = fresh()
    restore(again, checkpoint_bytes(state, "recipe"), "recipe")
    assert again.best is not None
    assert again.best[:3] == state.best[:3]
    assert all(torch.equal(value, state.best.weights[name]) for name, value in again.best.weights.items())


def test_an_error_that_is_not_lower_changes_nothing() -> None:
    state = fresh()
    first = better_of(None, state.emas, {100: (0.2,), 10: (0.3,)}, 8)
    assert better_of(first, state.emas, {100: (0.2,), 10: (0.2,)}, 16) is first
