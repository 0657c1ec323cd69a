"""A resumed training equals an unbroken one; published weights come back as they were."""

import io
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.unet import UNet
from scoreinv.training.checkpoint import (
    build_model,
    checkpoint_bytes,
    go_on_from,
    load_weights,
    restore,
    weights_bytes,
)
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import MODEL, Denoising

NETWORK = UNet(patch=2, n_features=8, channel_multipliers=(1, 2), n_blocks=1)
PRECONDITIONING = EDMPreconditioning(mean=0.1, sigma_data=0.3)


def draw(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 16, 16, generator=generator)


def fresh(spec: TrainSpec, *, seed: int = 0) -> TrainState:
    return TrainState.fresh({MODEL: build_model(NETWORK, PRECONDITIONING, seed=seed)}, spec)


def trained(n_steps: int) -> nn.Module:
    spec = TrainSpec(batch_size=4, learning_rate=1e-2, warmup_images=0)
    state = fresh(spec)
    for _ in islice(train(state, draw, Denoising(), spec), n_steps):
        pass
    return state.model


def same(first: object, second: object) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@pytest.mark.parametrize("is_bfloat16", [False, True])
def test_a_resumed_training_goes_on_bit_for_bit(is_bfloat16: bool) -> None:
    spec = TrainSpec(batch_size=4, learning_rate=1e-2, warmup_images=20, decay_images=20, is_bfloat16=is_bfloat16)
    unbroken = fresh(spec)
    steps = train(unbroken, draw, Denoising(), spec)
    for _ in islice(steps, 3):
        pass
    resumed = fresh(spec, seed=5)
    restore(resumed, checkpoint_bytes(unbroken, "recipe"), "recipe")
    assert resumed.images_seen == 12
    assert list(islice(train(resumed, draw, Denoising(), spec), 3)) == list(islice(steps, 3))
    assert same(resumed.model.state_dict(), unbroken.model.state_dict())
    assert same(resumed.ema.model.state_dict(), unbroken.ema.model.state_dict())
    assert same(resumed.optimizers[MODEL].state_dict(), unbroken.optimizers[MODEL].state_dict())


def test_the_checkpoint_of_another_recipe_is_refused() -> None:
    state = fresh(TrainSpec())
    with pytest.raises(ValueError, match="the checkpoint is of recipe abc, not def"):
        restore(state, checkpoint_bytes(state, "abc"), "def")


def test_weights_come_back_as_they_were() -> None:
    model = trained(3)
    model.autocast_dtype = None
    loaded = load_weights(build_model(NETWORK, PRECONDITIONING, seed=9), weights_bytes(model))
    x, sigma = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 2.0])
    assert same(loaded.network.state_dict(), model.network.state_dict())
    assert torch.equal(loaded(x, sigma), model.eval()(x, sigma))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_half_precision_halves_the_size_and_spares_the_buffers() -> None:
    model = trained(3)
    whole, half = weights_bytes(model), weights_bytes(model, dtype=torch.float16)
    assert 0.45 < len(half) / len(whole) < 0.6
    loaded = load_weights(build_model(NETWORK, PRECONDITIONING, seed=9), half)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    for name, buffer in model.network.named_buffers():
        assert torch.equal(loaded.network.get_buffer(name), buffer)
    for name, parameter in model.network.named_parameters():
        torch.testing.assert_close(loaded.network.get_parameter(name), parameter.half().float())


def test_the_same_weights_give_the_same_bytes() -> None:
    assert weights_bytes(trained(2)) == weights_bytes(trained(2))


def test_weights_of_another_network_are_refused() -> None:
    other = build_model(UNet(patch=2, n_features=16, channel_multipliers=(1, 2), n_blocks=1), PRECONDITIONING)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(other, weights_bytes(trained(1)))


def test_a_model_is_drawn_from_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = build_model(NETWORK, PRECONDITIONING, seed=4).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = build_model(NETWORK, PRECONDITIONING, seed=4).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(first, again)
    assert not same(first, build_model(NETWORK, PRECONDITIONING, seed=5).state_dict())


def test_a_new_training_goes_on_from_published_weights() -> None:
    spec = TrainSpec(batch_size=4, learning_rate=1e-2, warmup_images=8)
    published = trained(3)
    state = fresh(spec, seed=5)
    go_on_from(state, weights_bytes(published), 12)
    assert same(state.model.network.state_dict(), published.network.state_dict())
    assert same(state.ema.model.network.state_dict(), published.network.state_dict())
    (step,) = islice(train(state, draw, Denoising(), spec), 1)
    assert (step.images_seen, step.learning_rate) == (16, pytest.approx(5e-3))
    again = fresh(spec)
    restore(again, checkpoint_bytes(state, "recipe"), "recipe")
    assert (again.images_seen, again.images_before) == (16, 12)


def test_going_on_from_another_network_is_refused() -> None:
    other = build_model(NETWORK.model_copy(update={"n_features": 16}), PRECONDITIONING)
    with pytest.raises(ValueError, match="another network"):
        go_on_from(fresh(TrainSpec()), weights_bytes(other), 12)


def test_a_checkpoint_from_before_there_were_several_models_is_read() -> None:
    spec = TrainSpec(batch_size=4, learning_rate=1e-2, warmup_images=0)
    unbroken, resumed = fresh(spec), fresh(spec, seed=5)
    steps = train(unbroken, draw, Denoising(), spec)
    next(steps)
    content = torch.load(io.BytesIO(checkpoint_bytes(unbroken, "recipe")), weights_only=True)
    old = {name: content[name] for name in ("recipe", "images_seen", "images_before")}
    old |= {"model": content["models"][MODEL], "ema": content["emas"][0], "optimizer": content["optimizers"][MODEL]}
    buffer = io.BytesIO()
    torch.save(old, buffer)
    restore(resumed, buffer.getvalue(), "recipe")
    assert next(train(resumed, draw, Denoising(), spec)) == next(steps)
    assert same(resumed.model.state_dict(), unbroken.model.state_dict())
    assert same(resumed.ema.model.state_dict(), unbroken.ema.model.state_dict())


def test_several_averages_are_kept_and_the_first_is_what_it_is_alone() -> None:
    spec = TrainSpec(batch_size=4, learning_rate=1e-2, warmup_images=0, ema_half_life=8)
    alone, several = fresh(spec), fresh(spec.model_copy(update={"more_half_lives": (2, 1000)}))
    for state in (alone, several):
        for _ in islice(train(state, draw, Denoising(), spec), 4):
            pass
    assert same(several.ema.model.state_dict(), alone.ema.model.state_dict())
    weights = [weights_bytes(ema.model) for ema in several.emas]
    # The longest is bounded by a tenth of the images seen, as the others are here: they differ once it is not.
    assert [ema.half_life for ema in several.emas] == [8, 2, 1000]
    again = fresh(spec.model_copy(update={"more_half_lives": (2, 1000)}), seed=5)
    restore(again, checkpoint_bytes(several, "recipe"), "recipe")
    assert [weights_bytes(ema.model) for ema in again.emas] == weights
    several.images_seen = 10_000
    next(train(several, draw, Denoising(), spec))
    assert len({weights_bytes(ema.model) for ema in several.emas}) == 3
