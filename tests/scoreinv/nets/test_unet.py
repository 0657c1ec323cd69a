"""The U-Net starts at zero, knows positions only when told, and works in any layout and precision."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoreinv.nets.position import position_of
from scoreinv.nets.unet import LabelEmbedding, ResidualBlock, SelfAttention, UNet, UNetNetwork

SMALL = UNet(patch=2, n_features=16, channel_multipliers=(1, 2), n_blocks=1)
SHIPPED = UNet(patch=1, n_features=24, channel_multipliers=(1, 2, 3, 4), n_blocks=1, n_middle=1, has_position=True)
LABEL = torch.tensor([-1.2, 0.3])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(side: int = 16, n: int = 2) -> Tensor:
    return torch.randn(n, 1, side, side, generator=generator())


def stirred(spec: UNet, n_in: int = 1, n_out: int = 1) -> UNetNetwork:
    """A network none of whose weights are zero, as after training."""
    network = spec.build(n_in, n_out).eval()
    draws = generator(1)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))
    return network


@pytest.mark.parametrize("spec", [SMALL, SHIPPED, SMALL.model_copy(update={"n_middle": 0, "n_blocks": 2})])
def test_a_new_network_returns_zero(spec: UNet) -> None:
    out = spec.build()(images(), LABEL)
    assert out.shape == (2, 1, 16, 16)
    assert float(out.detach().abs().max()) == 0.0


@pytest.mark.parametrize("has_position", [False, True])
def test_images_may_have_channels_in_and_out(has_position: bool) -> None:
    network = stirred(SMALL.model_copy(update={"has_position": has_position}), 2, 3)
    x = torch.cat([images(), -images()], 1)
    out = network(x, LABEL)
    assert out.shape == (2, 3, 16, 16)
    assert float((out - network(x.flip(1), LABEL)).detach().abs().max()) > 1e-3


def test_the_shipped_configuration_has_its_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in SHIPPED.build().parameters()) == 1_868_665


def test_published_names_of_parameters_do_not_change() -> None:
    names = SHIPPED.build().state_dict().keys()
    expected = [
        "label.frequencies",
        "label.net.0.weight",
        "stem.weight",
        "down.0.modulation.weight",
        "down.1.conv.weight",
    ]
    expected += [
        "middle.0.block.conv1.weight",
        "middle.0.attention.qkv.weight",
        "up.2.conv.weight",
        "norm.weight",
        "head.bias",
    ]
    assert set(expected) <= set(names)
    assert len(names) == 181


def test_every_parameter_has_an_influence() -> None:
    network = stirred(SHIPPED)
    network(images(), LABEL).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    network = stirred(SMALL)
    together = network(images(), LABEL)
    alone = torch.cat([network(images()[i : i + 1], LABEL[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_the_noise_label_matters() -> None:
    network = stirred(SMALL)
    assert float((network(images(), LABEL) - network(images(), LABEL + 0.5)).detach().abs().max()) > 1e-3


def test_only_with_position_channels_a_constant_image_shows_where_it_is() -> None:
    def spread(has_position: bool) -> float:
        network = stirred(UNet(patch=1, n_features=16, channel_multipliers=(1,), n_blocks=1, has_position=has_position))
        # Away from the border, where padding tells the position too.
        out = network(torch.full((1, 1, 40, 40), 0.5), LABEL[:1])[..., 12:28, 12:28]
        return float(out.detach().std())

    assert spread(False) < 1e-5
    assert spread(True) > 1e-3


def test_sides_that_do_not_divide_are_mirrored_at_the_edges_with_their_positions() -> None:
    network, x = stirred(SMALL), torch.randn(2, 1, 18, 15, generator=generator())
    position = torch.randn(2, 2, 18, 15, generator=generator(3))
    padded, padded_position = (F.pad(one, (0, 1, 1, 1), mode="reflect") for one in (x, position))
    expected = network(padded, LABEL, padded_position)[..., 1:19, :15]
    assert torch.equal(network(x, LABEL, position), expected)
    assert network(x, LABEL).shape == x.shape
    with pytest.raises(ValueError, match=r"images of \(3, 18\) pixels are fewer than 4"):
        network(torch.zeros(2, 1, 3, 18), LABEL)


def test_a_network_is_told_the_position_or_finds_its_own() -> None:
    network, x = stirred(SMALL), images()
    assert torch.equal(network(x, LABEL), network(x, LABEL, position_of(x)))
    assert not torch.equal(network(x, LABEL), network(x, LABEL, position_of(x, 32)))
    blind = stirred(SMALL.model_copy(update={"has_position": False}))
    assert torch.equal(blind(x, LABEL), blind(x, LABEL, position_of(x, 32)))


def test_channels_last_gives_the_same_images_and_is_kept_throughout() -> None:
    network = stirred(SHIPPED)
    expected = network(images(), LABEL)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    strange = list[str]()

    def watch(name: str, output: Tensor) -> None:
        if output.ndim == 4 and not output.is_contiguous(memory_format=torch.channels_last):
            strange.append(name)

    for name, module in network.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _m, _i, output, name=name: watch(name, output))
    torch.testing.assert_close(network(images(), LABEL), expected, atol=1e-5, rtol=1e-4)
    # Images come as they are: the layout of the weights decides.
    assert strange == []


def test_bfloat16_autocast_stays_close() -> None:
    network = stirred(SHIPPED)
    expected = network(images(), LABEL).detach()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(images(), LABEL).detach()
    assert out.dtype == torch.bfloat16
    assert float((out.float() - expected).norm() / expected.norm()) < 0.03


@pytest.mark.parametrize("n_out", [16, 24])
def test_what_is_computed_in_place_changes_neither_result_nor_input(n_out: int) -> None:
    block = ResidualBlock(16, n_out, 8)
    nn.init.normal_(block.conv2.weight, std=0.1, generator=generator())
    x, emb = torch.randn(2, 16, 8, 8, generator=generator(1)), torch.randn(2, 8, generator=generator(2))
    before = x.clone()
    with torch.no_grad():
        fast = block(x, emb)
    assert torch.equal(x, before)
    torch.testing.assert_close(fast, block(x, emb).detach())
    x = x.double().requires_grad_()
    assert torch.autograd.gradcheck(block.double(), (x[:1, :, :3, :3], emb[:1].double()), fast_mode=True)


def test_a_state_fits_into_a_new_network() -> None:
    network, other = stirred(SHIPPED), SHIPPED.build().eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images(), LABEL), network(images(), LABEL))


def test_attention_is_permutation_equivariant() -> None:
    attention = SelfAttention(128)
    nn.init.normal_(attention.out.weight, generator=generator())
    x, order = torch.randn(2, 128, 4, 4, generator=generator()), torch.randperm(16, generator=generator())

    def shuffled(images: Tensor) -> Tensor:
        return images.flatten(2)[:, :, order].view_as(images)

    torch.testing.assert_close(attention(shuffled(x)), shuffled(attention(x)), atol=1e-4, rtol=1e-4)


def test_label_embedding_tells_close_levels_apart_and_distant_ones_too() -> None:
    features = LabelEmbedding(8)
    angles = torch.linspace(-1.5, 1, 251)[:, None] * features.frequencies
    waves = torch.cat([angles.cos(), angles.sin()], 1)
    distance = torch.cdist(waves, waves)
    # The nearest level is a neighbour, and no two levels are confused.
    assert float(distance[0, 1]) > 0.1
    assert float((distance + 100 * torch.eye(251)).min()) > 0.1
    assert bool(((distance + 100 * torch.eye(251)).argmin(1) - torch.arange(251)).abs().le(1).all())
