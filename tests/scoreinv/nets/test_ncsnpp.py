"""NCSN++ is the paper's network: parameter counts, where attention sits, how it starts, that it learns."""

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from scoreinv.denoiser import ScoreModel, VEPreconditioning
from scoreinv.nets.layers import Attention
from scoreinv.nets.ncsnpp import NCSNpp
from scoreinv.shipped import recipes_folder

TINY = NCSNpp(image_size=16, n_features=8, channel_multipliers=(1, 2, 2), n_blocks=1, attention_sizes=(8,))


def of_recipe(name: str) -> NCSNpp:
    """The paper's network, as the recipe of its experiment has it."""
    recipe = yaml.safe_load((recipes_folder() / f"{name}.yaml").read_text())
    return NCSNpp.model_validate(recipe["studies"][0]["training"]["train"]["network"])


BRATS_240, LIDC_320, LDCT_512 = (of_recipe(name) for name in ("paper-brats-240", "paper-lidc-320", "ldct-512"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def awake(spec: NCSNpp) -> nn.Module:
    """A network with weights as after some training: none are close to 0."""
    network = spec.build()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def on_meta(spec: NCSNpp) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return spec.build()


@pytest.mark.parametrize(("spec", "millions"), [(BRATS_240, 2.68), (LIDC_320, 4.12), (LDCT_512, 75.7)])
def test_parameter_counts_are_those_of_the_paper(spec: NCSNpp, millions: float) -> None:
    count = sum(parameter.numel() for parameter in on_meta(spec).parameters())
    assert float(f"{count / 1e6:.3g}") == millions


@pytest.mark.parametrize(
    ("spec", "sizes", "n_attentions"),
    [
        (BRATS_240, (240, 120, 60, 30, 15), 2 + 1 + 1),
        (LIDC_320, (320, 160, 80, 40, 20, 10, 5), 2 + 1 + 1),
        (LDCT_512, (512, 256, 128, 64, 32, 16, 8), 1 + 1 + 1),
    ],
)
def test_levels_and_attention_lie_where_the_paper_has_them(
    spec: NCSNpp, sizes: tuple[int, ...], n_attentions: int
) -> None:
    assert spec.sizes == sizes
    assert sum(isinstance(module, Attention) for module in on_meta(spec).modules()) == n_attentions


def test_attention_acts_on_maps_of_its_size() -> None:
    network, seen = TINY.build(), []
    for module in network.modules():
        if isinstance(module, Attention):
            module.register_forward_hook(lambda _module, args, _out: seen.append(args[0].shape[-1]))
    network(torch.rand(1, 1, 16, 16), torch.zeros(1))
    assert seen == [8, 4, 8]  # encoder, middle (always), decoder


def test_the_denoiser_starts_as_the_identity() -> None:
    """F is 0 to 1e-3 before training, so that D(x, sigma) = x to 1e-3 sigma: the score starts as 0."""
    model = ScoreModel(TINY.build(), VEPreconditioning())
    sigma = torch.tensor([0.01, 1.0, 128.0])
    x = torch.rand(3, 1, 16, 16) + sigma.view(-1, 1, 1, 1) * torch.randn(3, 1, 16, 16)
    assert ((model(x, sigma) - x).abs().amax((1, 2, 3)) < 1e-3 * sigma + 1e-6).all()


def test_images_may_have_channels_in_and_out() -> None:
    network = TINY.build(2, 3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        x = torch.rand(1, 2, 16, 16)
        out = network(x, torch.zeros(1))
        assert out.shape == (1, 3, 16, 16)
        assert float((out - network(x.flip(1), torch.zeros(1))).abs().max()) > 1e-3


def test_images_in_0_1_reach_the_first_layer_in_minus_1_1() -> None:
    network, x, seen = TINY.build(), torch.rand(2, 1, 16, 16), []
    network.get_submodule("conv_in").register_forward_hook(lambda _module, args, _out: seen.append(args[0]))
    network(x, torch.zeros(2))
    torch.testing.assert_close(seen[0], 2 * x - 1)


def test_gradients_reach_every_parameter_before_training() -> None:
    network = TINY.build().double()
    x, target = torch.rand(2, 1, 16, 16, dtype=torch.float64), torch.randn(2, 1, 16, 16, dtype=torch.float64)
    (network(x, torch.tensor([-1.0, 2.0], dtype=torch.float64)) - target).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # Softmax does not change when all logits grow alike, so a key's bias has no effect in exact arithmetic.
    assert [name for name in silent if not name.endswith("key.bias")] == []


def test_it_learns_one_image_at_one_noise_level() -> None:
    network, clean, sigma = TINY.build(), torch.rand(1, 1, 16, 16), 0.3
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = [_step(network, optimizer, clean, sigma) for _ in range(80)]
    assert losses[0] == pytest.approx(1.0, abs=0.1)  # predicting nothing costs the noise's variance
    assert sum(losses[-5:]) / 5 < losses[0] / 5


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, clean: Tensor, sigma: float) -> float:
    noise = torch.randn(8, *clean.shape[1:])
    raw = network(clean + sigma * noise, torch.full((8,), sigma).log())
    loss = (raw + noise).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_channels_last_gives_the_same_numbers() -> None:
    network, x, label = awake(TINY), torch.rand(2, 1, 16, 16), torch.tensor([-2.0, 1.0])
    with torch.no_grad():
        usual = network(x, label)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = network(x.contiguous(memory_format=torch.channels_last), label)
    assert usual.std() > 0.1
    torch.testing.assert_close(last, usual, rtol=1e-4, atol=1e-5)


def test_bfloat16_autocast_is_within_3_percent() -> None:
    network, x, label = awake(TINY), torch.rand(2, 1, 16, 16), torch.tensor([-2.0, 1.0])
    with torch.no_grad():
        exact = network(x, label)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(x, label)
    assert (rough.float() - exact).norm() < 0.03 * exact.norm()


def test_images_do_not_see_each_other_and_hear_their_own_noise_level() -> None:
    network, x, label = awake(TINY), torch.rand(2, 1, 16, 16), torch.tensor([-2.0, 1.0])
    with torch.no_grad():
        together, alone = network(x, label), network(x[1:], label[1:])
        elsewhere = network(x[1:], label[:1])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)
    assert (alone - elsewhere).abs().max() > 1e-2


def test_stored_weights_give_the_same_network() -> None:
    first, second = awake(TINY), awake(TINY)
    second.load_state_dict(first.state_dict())
    x, label = torch.rand(1, 1, 16, 16), torch.zeros(1)
    assert torch.equal(first(x, label), second(x, label))


def test_other_sizes_than_the_trained_one_work_if_they_halve() -> None:
    network = TINY.build()
    assert network(torch.rand(1, 1, 24, 20), torch.zeros(1)).shape == (1, 1, 24, 20)
    with pytest.raises(ValueError, match="height and width must be multiples of 4, got 16 x 18"):
        network(torch.rand(1, 1, 16, 18), torch.zeros(1))


def test_an_image_size_that_does_not_halve_is_refused() -> None:
    with pytest.raises(ValidationError, match="image_size must be a multiple of 16, got 250"):
        NCSNpp(image_size=250)


def test_attention_at_a_size_that_no_level_has_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"must be among the levels' sizes \(240, 120, 60, 30, 15\), got \(16,\)"):
        NCSNpp(attention_sizes=(16,))


def test_the_spec_survives_json() -> None:
    assert NCSNpp.model_validate_json(LDCT_512.model_dump_json()) == LDCT_512
