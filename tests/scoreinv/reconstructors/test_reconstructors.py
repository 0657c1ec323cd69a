"""Every reconstructor learns its measurement, explains the data where it says so, and knows no neighbours."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from scoreinv.baselines import Learned
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import MeasurementSpec, simulate
from scoreinv.metrics.image import psnr
from scoreinv.nets import UNet
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.reconstructors import AnyModel, ReconstructorSpec, reconstructor_of
from scoreinv.training.augment import Augmentation
from scoreinv.training.checkpoint import build_models, load_weights, weights_bytes
from scoreinv.training.data import ImageBatches, measured
from scoreinv.training.loop import TrainSpec, TrainState, train
from scoreinv.training.objectives import Adversarial, Supervised
from tests.cases import RECONSTRUCTORS, SMALL_UNET

SIZE = 32
MRI = ImageContract(modality="mri", size=SIZE, pixel_mm=8.0, low=0, high=1)
CT = MRI.model_copy(update={"modality": "ct", "low": -1000.0, "high": 1000.0})
FEW_VIEWS, FEW_COLUMNS = SparseViewCT(n_views=9), CartesianMRI(acceleration=4)
SPEC = TrainSpec(n_images=640, batch_size=8, learning_rate=3e-3, warmup_images=40, ema_half_life=80, is_bfloat16=False)
SLOW = ("sinogram_gan", "refined")
"""Those that know nothing of the measurement learn from twice as many images, and cost the least."""
VARIED = Augmentation(probability=1.0, can_flip=True, degrees=30, zoom=0.2, shift=0.1)
ALL = RECONSTRUCTORS | {"refined": SMALL_UNET}
SETTINGS = [
    (name, measurement)
    for name, spec in ALL.items()
    for measurement in (FEW_VIEWS, FEW_COLUMNS)
    if not isinstance(spec, ReconstructorSpec) or spec.modality in (None, measurement.modality)
]
IDS = [f"{name}-{measurement.modality}" for name, measurement in SETTINGS]
each_setting = pytest.mark.parametrize(("name", "measurement"), SETTINGS, ids=IDS)


def contract(measurement: MeasurementSpec) -> ImageContract:
    return CT if measurement.modality == "ct" else MRI


@lru_cache
def heads() -> Tensor:
    """Shepp and Logan's, of several sizes and places, (8, 1, 32, 32)."""
    head = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()[None].clamp(0, 1)
    return torch.stack([head.roll((i % 3 - 1, i // 3 - 1), (-2, -1)) for i in range(8)])


def batches(n: int, generator: torch.Generator) -> Tensor:
    draw = ImageBatches(heads(), SIZE, weights=torch.ones(8), augmentation=VARIED, device=torch.device("cpu"))
    return draw(n, generator)


@lru_cache
def trained(name: str, measurement: MeasurementSpec) -> torch.nn.Module:
    objective = Supervised(measurement=measurement, l1_share=0.5)
    models = build_models(objective, ALL[name], contract(measurement))
    spec = SPEC.model_copy(update={"n_images": (1 + (name in SLOW)) * SPEC.n_images})
    state = TrainState.fresh(models, spec)
    for _ in train(state, objective.batches(batches, contract(measurement)), objective, spec):
        pass
    return state.ema.model.eval().requires_grad_(False)


def held_out(measurement: MeasurementSpec, n: int = 6) -> tuple[InverseProblem, Tensor]:
    images = batches(n, torch.Generator().manual_seed(99))
    return measured(images, measurement, contract(measurement), Noise(0, [str(i) for i in range(n)]))


def quality(x: Tensor, truth: Tensor) -> float:
    return float(psnr(x, truth, data_range=1.0).mean())


@each_setting
def test_after_a_short_training_it_beats_the_direct_reconstruction(name: str, measurement: MeasurementSpec) -> None:
    problem, truth = held_out(measurement)
    direct = quality(problem.operator.direct(problem.y), truth)
    x = reconstruct(Learned(), problem, trained(name, measurement), noise=Noise(0, [str(i) for i in range(6)])).x
    assert quality(x, truth) > direct + 1.0


@each_setting
def test_an_image_does_not_depend_on_its_neighbours(name: str, measurement: MeasurementSpec) -> None:
    problem, _ = held_out(measurement)
    model = trained(name, measurement)
    together, alone = model(problem), model(problem.part(torch.tensor([2])))
    torch.testing.assert_close(together[2:3], alone, atol=2e-5, rtol=1e-4)


@each_setting
def test_it_runs_on_data_of_other_options(name: str, measurement: MeasurementSpec) -> None:
    other = {"n_views": 12} if measurement is FEW_VIEWS else {"acceleration": 2}
    problem, truth = held_out(measurement.model_copy(update=other))
    x = trained(name, measurement)(problem)
    assert x.shape == truth.shape
    assert bool(x.isfinite().all())


@each_setting
def test_weights_make_the_same_reconstructor_again(name: str, measurement: MeasurementSpec) -> None:
    problem, _ = held_out(measurement, 2)
    model = trained(name, measurement)
    again = load_weights(reconstructor_of(ALL[name], contract(measurement)), weights_bytes(model))
    torch.testing.assert_close(again(problem), model(problem), atol=1e-5, rtol=0)


@each_setting
def test_what_a_training_compares_has_one_size_and_last_the_image(name: str, measurement: MeasurementSpec) -> None:
    problem, truth = held_out(measurement)
    model = reconstructor_of(ALL[name], contract(measurement))
    pairs = model.pairs(problem, truth)
    assert all(made.shape == wanted.shape for made, wanted in pairs)
    sizes = [float(wanted.detach().abs().mean()) for _, wanted in pairs]
    assert max(sizes) < 20 * min(sizes)
    assert model.condition(problem).shape == pairs[-1][1].shape
    if name != "sinogram_gan":
        assert torch.equal(pairs[-1][1], truth)


@pytest.mark.parametrize("name", ["cascade_densenet", "dudornet"])
def test_complex_images_explain_noiseless_data(name: str) -> None:
    """Real ones are the real part of such, which explains them but for what has no mirror."""
    image = MRI.model_copy(update={"n_channels": 2})
    pairs = batches(6, torch.Generator().manual_seed(1)).view(3, 2, SIZE, SIZE)
    data = simulate(FEW_COLUMNS, pairs, image, Noise(0, list("abc")))
    problem = InverseProblem.of(FEW_COLUMNS, data, image)
    model = build_models(Supervised(measurement=FEW_COLUMNS), ALL[name], image)["model"]
    for parameter in model.parameters():
        parameter.data.add_(0.02)
    with torch.no_grad():
        x = model(problem)
    assert float((x - problem.operator.direct(problem.y)).abs().max()) > 1e-3
    assert float(problem.residual(x).abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["sinogram_gan", "sin_prn", "dudornet"])
def test_a_discriminator_may_judge_what_it_completes(name: str) -> None:
    measurement = FEW_COLUMNS if name == "dudornet" else FEW_VIEWS
    objective = Adversarial(supervised=Supervised(measurement=measurement), weight=0.02, gan="least_squares")
    objective = objective.model_copy(update={"judge": objective.judge.model_copy(update={"n_layers": 2})})
    image = contract(measurement)
    spec = SPEC.model_copy(update={"n_images": 16})
    state = TrainState.fresh(build_models(objective, ALL[name], image), spec)
    before = {group: [p.detach().clone() for p in model.parameters()] for group, model in state.models.items()}
    for step in train(state, objective.batches(batches, image), objective, spec):
        assert all(bool(loss.isfinite()) for loss in step.losses.values())
    for group, model in state.models.items():
        assert any(not torch.equal(p, q) for p, q in zip(model.parameters(), before[group], strict=True))


@pytest.mark.parametrize("name", [n for n, spec in RECONSTRUCTORS.items() if spec.modality])
def test_data_of_another_modality_are_refused(name: str) -> None:
    spec = RECONSTRUCTORS[name]
    wrong, theirs = (MRI, "MR") if spec.modality == "ct" else (CT, "CT")
    with pytest.raises(UserError, match=f"network.kind='{name}' is for {spec.modality} data, not {theirs}"):
        reconstructor_of(spec, wrong)


@pytest.mark.parametrize("network", [UNet(), RECONSTRUCTORS["unrolled"]])
def test_sides_that_networks_want_are_known(network: AnyModel) -> None:
    assert network.size_multiple > 1
