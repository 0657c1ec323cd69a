"""On a CPU nothing is drawn otherwise than without a GPU; a layout serves a device; optimisers follow it."""

import pytest
import torch

from scoreinv.denoiser import EDMPreconditioning
from scoreinv.nets.unet import UNet
from scoreinv.training.checkpoint import build_model, checkpoint_bytes, restore
from scoreinv.training.device import laid_out, normal_like, sent
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import MODEL, Denoising

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NETWORK = UNet(patch=1, n_features=8, channel_multipliers=(1, 2), n_blocks=1, n_middle=0)


def test_on_a_cpu_draws_are_those_of_the_generator_alone() -> None:
    images = torch.zeros(2, 1, 4, 4)
    normal = normal_like(images, torch.Generator().manual_seed(5))
    assert torch.equal(normal, torch.randn(images.shape, generator=torch.Generator().manual_seed(5)))
    assert sent(normal, CPU) is normal


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_draws_the_same_noise_again() -> None:
    images = torch.zeros(2, 1, 4, 4, device=CUDA)
    first, again, other = (normal_like(images, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert first.is_cuda
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(sent(torch.arange(3), CUDA).cpu(), torch.arange(3))


@pytest.mark.parametrize(("is_bfloat16", "is_channels_last"), [(True, True), (False, False)])
def test_the_layout_of_a_cpu_follows_the_precision(is_bfloat16: bool, is_channels_last: bool) -> None:
    model = laid_out(build_model(NETWORK, EDMPreconditioning()), CPU, is_bfloat16=is_bfloat16)
    weight = model.network.down[0].conv1.weight  # type: ignore[index,union-attr]
    assert weight.is_contiguous(memory_format=torch.channels_last) == is_channels_last
    assert weight.is_contiguous() != is_channels_last


def test_a_checkpoint_of_another_layout_is_taken_over() -> None:
    """A fused optimiser wants its tensors laid out as the parameters."""
    spec = TrainSpec(n_images=4, batch_size=2, is_bfloat16=False)
    states = [
        TrainState.fresh({MODEL: laid_out(build_model(NETWORK, EDMPreconditioning()), CPU, is_bfloat16=one)}, spec)
        for one in (True, False)
    ]
    next(train(states[0], lambda n, generator: torch.rand(n, 1, 8, 8, generator=generator), Denoising(), spec))
    restore(states[1], checkpoint_bytes(states[0], "recipe"), "recipe")
    mine, theirs = (state.optimizers[MODEL].state for state in (states[1], states[0]))
    for (parameter, values), other in zip(mine.items(), theirs.values(), strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            assert values[name].stride() == parameter.stride()
            assert torch.equal(values[name], other[name])
