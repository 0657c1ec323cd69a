"""Every objective learns, in steps that can be repeated, resumed and cut into parts."""

import math
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from scoreinv.baselines import Learned
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import GaussianNoise
from scoreinv.nets import NCSNpp, UNet
from scoreinv.nets.patch_discriminator import PatchDiscriminator
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.training.augment import Augmentation
from scoreinv.training.checkpoint import build_models, checkpoint_bytes, restore
from scoreinv.training.data import Batch, Batches, ImageBatches, MeasuredBatches, measured
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import MODEL, Adversarial, AnyObjective, Denoising, Objective, Supervised
from scoreinv.training.objectives.adversarial import DISCRIMINATOR
from tests.cases import OBJECTIVES

SIZE = 16
MRI = ImageContract(modality="mri", size=SIZE, pixel_mm=16.0, low=0, high=1)
CT = MRI.model_copy(update={"modality": "ct", "low": -1000.0, "high": 1000.0})
NETWORK = UNet(patch=1, n_features=8, channel_multipliers=(1, 2), n_blocks=1, n_middle=0)
SPEC = TrainSpec(n_images=32, batch_size=8, learning_rate=2e-3, warmup_images=0, is_bfloat16=False)
each_objective = pytest.mark.parametrize("name", OBJECTIVES)


def smooth(n: int, generator: torch.Generator, *, side: int = SIZE) -> Tensor:
    """Blurred noise between 0 and 1."""
    noise = torch.randn(n, 1, side, side, generator=generator)
    return torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2).mul(1.5).add(0.5).clamp(0, 1)


def contract_for(objective: AnyObjective) -> ImageContract:
    supervised = objective.supervised if isinstance(objective, Adversarial) else objective
    return CT if isinstance(supervised, Supervised) and supervised.measurement.modality == "ct" else MRI


def batches_for(objective: AnyObjective) -> Batches:
    return objective.batches(smooth, contract_for(objective))


def fresh(objective: AnyObjective, spec: TrainSpec = SPEC) -> TrainState:
    return TrainState.fresh(build_models(objective, NETWORK, contract_for(objective)), spec)


def trained(objective: AnyObjective, spec: TrainSpec = SPEC, **options: int) -> TrainState:
    state = fresh(objective, spec)
    for _ in train(state, batches_for(objective), objective, spec, **options):
        pass
    return state


def weights_of(state: TrainState) -> list[Tensor]:
    return [p.detach().clone() for model in (*state.models.values(), state.ema.model) for p in model.parameters()]


def same(one: TrainState, other: TrainState) -> bool:
    return all(map(torch.equal, weights_of(one), weights_of(other)))


@each_objective
def test_training_twice_gives_the_same_weights_and_a_resumed_one_too(name: str) -> None:
    objective = OBJECTIVES[name]
    first, begun, resumed = trained(objective), fresh(objective), fresh(objective)
    assert same(first, trained(objective))
    for _ in islice(train(begun, batches_for(objective), objective, SPEC), 2):
        pass
    restore(resumed, checkpoint_bytes(begun, "recipe"), "recipe")
    assert resumed.images_seen == 16
    for _ in train(resumed, batches_for(objective), objective, SPEC):
        pass
    assert same(first, resumed)
    assert not same(first, trained(objective, SPEC.model_copy(update={"seed": 1})))


@each_objective
@pytest.mark.parametrize("n_at_once", [1, 3])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(name: str, n_at_once: int) -> None:
    """Of one step: Adam's first is the sign of the gradient, so gradients are compared and not weights."""
    objective, spec = OBJECTIVES[name], SPEC.model_copy(update={"n_images": 8, "clip_norm": 1e9})
    whole, parts = (trained(objective, spec, n_at_once=n) for n in (0, n_at_once))
    for group, model in whole.models.items():
        pairs = zip(model.parameters(), parts.models[group].parameters(), strict=True)
        gradients = [(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None]
        scale = max(float(one.abs().max()) for one, _ in gradients)
        assert scale > 0
        # The model's gradient passes through a discriminator whose first step differed by rounding.
        assert all(float((one - other).abs().max()) < 2e-3 * scale for one, other in gradients), group


@each_objective
def test_errors_on_held_out_images_fall(name: str) -> None:
    objective, spec = OBJECTIVES[name], SPEC.model_copy(update={"n_images": 320, "ema_half_life": 40})
    held_out, image = smooth(12, torch.Generator().manual_seed(9)), contract_for(objective)
    before = objective.errors(fresh(objective).ema.model, held_out, image)
    state = trained(objective, spec)
    after = objective.errors(state.ema.model, held_out, image)
    assert len(after) == len(before) == max(1, len(objective.sigmas()))
    assert sum(map(math.log, after)) < sum(map(math.log, before)) - 0.02 * len(after)
    assert after == objective.errors(state.ema.model, held_out, image)


def test_an_untrained_reconstructor_is_the_direct_reconstruction() -> None:
    objective = OBJECTIVES["supervised_mri"]
    problem, truth = measured(
        smooth(3, torch.Generator().manual_seed(0)), CartesianMRI(), MRI, Noise(0, ["a", "b", "c"])
    )
    model = fresh(objective).model
    with torch.no_grad():
        x = reconstruct(Learned(), problem, model, noise=Noise(0, ["a", "b", "c"]))
        nearer = reconstruct(Learned(n_cg=5), problem, lambda _: truth + 0.1, noise=Noise(0, ["a", "b", "c"]))
    assert x.nfe == 1
    torch.testing.assert_close(x.x, problem.operator.direct(problem.y))
    assert float(problem.residual(nearer.x).abs().max()) < 1e-4


def test_the_loss_is_a_mix_of_absolute_and_squared_error() -> None:
    x, images = torch.zeros(2, 1, 2, 2), torch.tensor([0.5, -2.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    for share, expected in ((1.0, [0.5, 2.0]), (0.0, [0.25, 4.0]), (0.25, [0.3125, 3.5])):
        objective = Supervised(measurement=CartesianMRI(), l1_share=share)
        twice = objective.distance([(x, images), (x, images)])
        torch.testing.assert_close(twice, 2 * torch.tensor(expected))
        torch.testing.assert_close(objective.distance([(x, images)]), torch.tensor(expected))


class Judge(torch.nn.Module):
    """Says 2 of the images and -0.5 of everything else."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images = images

    def forward(self, pairs: Tensor) -> Tensor:
        is_true = [any(torch.equal(one, image) for image in self.images) for one in pairs[:, :1]]
        return torch.tensor([2.0 if one else -0.5 for one in is_true]).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("gan", "tell", "fool"), [("hinge", 0.0 + 0.5, 0.5), ("least_squares", (1.0 + 0.25) / 2, 2.25)]
)
def test_adversarial_losses_are_the_published_ones(gan: Any, tell: float, fool: float) -> None:
    objective = Adversarial(supervised=Supervised(measurement=CartesianMRI()), gan=gan, weight=0.1)
    problem, images = measured(smooth(2, torch.Generator().manual_seed(0)), CartesianMRI(), MRI, Noise(0, ["a", "b"]))
    models = {DISCRIMINATOR: Judge(images), MODEL: lambda problem: images + 0.25}
    losses = [objective.loss(models, (problem, images), group) for group in (DISCRIMINATOR, MODEL)]  # type: ignore[arg-type]
    torch.testing.assert_close(losses[0], torch.full((2,), tell))
    torch.testing.assert_close(losses[1], torch.full((2,), 0.25 + 0.1 * fool))


def test_a_discriminator_learns_to_tell_and_its_optimiser_is_its_own() -> None:
    supervised = Supervised(measurement=CartesianMRI(acceleration=4))
    objective = Adversarial(supervised=supervised, judge=PatchDiscriminator(n_layers=1), weight=0.0)
    spec = SPEC.model_copy(update={"n_images": 160})
    state, alone = fresh(objective), fresh(supervised)
    alone.model.load_state_dict(state.model.state_dict())
    examples = batches_for(objective)(32, torch.Generator().manual_seed(7))
    assert isinstance(examples, tuple)
    with torch.no_grad():
        before = objective.loss(state.models, examples, DISCRIMINATOR).mean()
    for state_, objective_ in ((state, objective), (alone, supervised)):
        for _ in train(state_, batches_for(objective_), objective_, spec):
            pass
    with torch.no_grad():
        after = objective.loss(state.models, examples, DISCRIMINATOR).mean()
    assert float(before) == pytest.approx(2.0, abs=0.5)
    assert float(after) < 0.9 * float(before)
    # Without weight the model learns as if it were alone.
    for name, value in state.model.state_dict().items():
        torch.testing.assert_close(alone.model.state_dict()[name], value)


def test_a_discriminator_that_leaves_nothing_is_refused() -> None:
    objective = Adversarial(supervised=Supervised(measurement=CartesianMRI()))
    with pytest.raises(UserError, match="n_layers=3 leaves nothing of images of 16 pixels"):
        objective.build(NETWORK, MRI)
    network = PatchDiscriminator().build(2)
    assert network(torch.zeros(1, 2, 32, 32)).shape == (1, 1, 2, 2)


def test_every_draw_is_measured_anew_and_the_same_for_the_same_step() -> None:
    spec = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.1))
    draw = MeasuredBatches(lambda n, generator: torch.zeros(n, 1, SIZE, SIZE), spec, MRI)
    first, again, other = (draw(2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first[0].y, again[0].y)
    assert not torch.equal(first[0].y, other[0].y)
    assert not torch.equal(first[0].y[0], first[0].y[1])
    measured_points = first[0].y[first[0].y != 0]
    assert float(torch.view_as_real(measured_points).std()) == pytest.approx(0.1, rel=0.1)


def test_finer_images_are_measured_as_they_are_and_learned_on_the_contracts_grid() -> None:
    fine = smooth(2, torch.Generator().manual_seed(0), side=2 * SIZE)
    problem, images = measured(fine, SparseViewCT(n_views=5), CT, Noise(0, ["a", "b"]))
    assert torch.equal(images, torch.nn.functional.avg_pool2d(fine, 2))
    crime, _ = measured(images, SparseViewCT(n_views=5), CT, Noise(0, ["a", "b"]))
    difference = (problem.y - crime.y).norm() / crime.y.norm()
    assert 1e-4 < float(difference) < 0.1
    assert [Supervised(measurement=SparseViewCT(), uses_fine_images=fine).factor(2) for fine in (False, True)] == [1, 2]


SKIPS = NCSNpp(image_size=SIZE, n_features=8, channel_multipliers=(1, 2), n_blocks=1, attention_sizes=())


@pytest.mark.parametrize("network", [NETWORK, SKIPS])
def test_denoising_learns_two_channels(network: Any) -> None:
    """Of which one is the other's negative: the network must look across."""
    image, objective = MRI.model_copy(update={"n_channels": 2}), Denoising(levels=LogNormalLevels(mean=0.0, std=0.5))

    def pairs(n: int, generator: torch.Generator) -> Tensor:
        one = smooth(n, generator)
        return torch.cat([one, -one], 1)

    state = TrainState.fresh(build_models(objective, network, image), SPEC)
    held_out = pairs(8, torch.Generator().manual_seed(5))
    before = objective.errors(state.ema.model, held_out, image)
    images = ImageBatches(
        pairs(16, torch.Generator().manual_seed(6)),
        SIZE,
        weights=torch.ones(16),
        augmentation=Augmentation(),
        device=torch.device("cpu"),
    )
    assert images(3, torch.Generator()).shape == (3, 2, SIZE, SIZE)
    for _ in train(state, pairs, objective, SPEC.model_copy(update={"n_images": 160, "ema_half_life": 40})):
        pass
    after = objective.errors(state.ema.model, held_out, image)
    assert after[-3] < 0.8 * before[-3]


class Scarce(Objective):
    """Denoising on a GPU that has room for three images at once."""

    seen: list[int] = []

    def examples(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, ...]:
        return Denoising().examples(batch, generator)

    def loss(self, models: Any, examples: Any, group: str) -> Tensor:
        self.seen.append(len(examples[-1]))
        if len(examples[-1]) > 3:
            raise torch.cuda.OutOfMemoryError
        return Denoising().loss(models, examples)


def test_where_memory_is_not_enough_fewer_images_go_through_at_once() -> None:
    objective, spec = Scarce(), SPEC.model_copy(update={"n_images": 16})
    state, whole = (fresh(OBJECTIVES["denoising"]) for _ in range(2))
    losses = [float(step.loss) for step in train(state, smooth, objective, spec)]
    assert objective.seen == [8, 4] + [2] * 8
    assert losses == pytest.approx([float(step.loss) for step in train(whole, smooth, Denoising(), spec)], rel=1e-4)


class Hopeless(Scarce):
    def loss(self, models: Any, examples: Any, group: str) -> Tensor:
        raise torch.cuda.OutOfMemoryError


def test_where_not_even_one_image_fits_it_is_said() -> None:
    with pytest.raises(MemoryError, match="one image at a time does not fit"):
        next(train(fresh(OBJECTIVES["denoising"]), smooth, Hopeless(), SPEC))


class OnlyTheHead(Objective):
    """A loss on one parameter, as a user may write it."""

    def loss(self, models: Any, examples: Any, group: str) -> Tensor:
        problem_or_images = examples[0]
        assert not isinstance(problem_or_images, InverseProblem)
        return (models["model"].weight * problem_or_images.mean() - 1).square().mean()


def test_an_objective_needs_no_more_than_a_loss() -> None:
    model = torch.nn.Linear(1, 1)
    state = TrainState.fresh({"model": model}, SPEC)
    before = model.weight.detach().clone()
    spec = SPEC.model_copy(update={"n_images": 400})
    losses = [float(step.loss) for step in train(state, smooth, OnlyTheHead(), spec)]
    assert losses[-1] < losses[0] - 0.01
    assert not torch.equal(before, model.weight)
    with pytest.raises(ValueError, match="models are called other: call the one to publish 'model'"):
        TrainState.fresh({"other": model}, SPEC)
