"""Views that are left out: how far images are off, without their truth."""

import pytest
import torch
from torch import Tensor

from scoreinv.baselines import Direct, TotalVariation
from scoreinv.contract import ImageContract
from scoreinv.cross_validation import checked, expected_mse, parts
from scoreinv.errors import UserError
from scoreinv.measurement import MeasurementSpec, PoissonNoise, simulate
from scoreinv.noise import Noise
from scoreinv.operators.ct import CTOperator, LimitedAngleCT, SparseViewCT
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, Method, reconstruct
from tests.newcomers.test_fan_beam import FanBeam

SIZE = 64
IMAGE = ImageContract(modality="ct", size=SIZE, pixel_mm=4.0, low=-1000, high=1000)


def truths(n: int = 3) -> Tensor:
    """Phantoms of n contrasts (n, 1, size, size)."""
    phantom = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()
    return torch.stack([phantom * contrast for contrast in torch.linspace(0.4, 1.0, n)])[:, None]


def problem_of(spec: MeasurementSpec, images: Tensor) -> InverseProblem:
    noise = Noise(0, [str(i) for i in range(len(images))])
    return InverseProblem.of(spec, simulate(spec, images, IMAGE, noise), IMAGE)


def expected_and_true(problem: InverseProblem, images: Tensor, method: Method) -> tuple[Tensor, Tensor]:
    """Mean square errors of the images that are made of most views."""
    kept, left_out = parts(problem)
    made = reconstruct(method, kept, noise=Noise(0, ["a"] * len(images))).x
    return expected_mse(made, left_out), (made - images).square().mean((1, 2, 3))


def test_the_energy_of_a_sinogram_is_that_of_its_image() -> None:
    blurred = torch.nn.functional.avg_pool2d(truths(), 5, stride=1, padding=2)
    operator = SparseViewCT(n_views=120).operator(SIZE)
    torch.testing.assert_close(
        operator.energy(operator.forward(blurred)), blurred.square().mean((1, 2, 3)), rtol=0.05, atol=0
    )


def test_the_energy_of_noise_is_its_mean_however_unequal_it_is() -> None:
    operator = SparseViewCT(n_views=6).operator(SIZE)
    generator = torch.Generator().manual_seed(0)
    std = torch.rand(1, *operator.data_shape, generator=generator)
    # Neighbouring rays through metal or shoulders, whose noise is of another order.
    std[..., 40:44] *= 30
    noise = std * torch.randn(4000, *operator.data_shape, generator=generator)
    torch.testing.assert_close(operator.energy(noise).mean(), operator.noise_energy(std)[0], rtol=0.03, atol=0)


@pytest.mark.parametrize("method", [TotalVariation(weight=1e-4), TotalVariation(weight=3e-2), Direct()])
@pytest.mark.parametrize("spec", [SparseViewCT(n_views=10), SparseViewCT(n_views=24), SparseViewCT(n_views=60)])
def test_what_is_expected_is_near_what_is_true(spec: SparseViewCT, method: Method) -> None:
    """Errors at sharp edges are finer than bins, which therefore see a part of them."""
    images = truths()
    expected, true = expected_and_true(problem_of(spec, images), images, method)
    assert ((expected / true > 0.3) & (expected / true < 2.5)).all(), (expected / true).tolist()
    assert expected.argsort().equal(true.argsort())


def test_a_worse_method_is_expected_to_be_worse() -> None:
    images = truths()
    problem = problem_of(SparseViewCT(n_views=24), images)
    better, worse = (
        expected_and_true(problem, images, one)[0] for one in (TotalVariation(weight=1e-4), TotalVariation(weight=0.3))
    )
    assert (worse > 3 * better).all()


@pytest.mark.parametrize("photons", [1e4, 1e3])
def test_the_noise_of_views_that_are_left_out_is_no_error(photons: float) -> None:
    images = truths(20)
    spec = SparseViewCT(n_views=30, noise=PoissonNoise(n_photons=photons))
    _, left_out = parts(problem_of(spec, images))
    operator = left_out.operator
    assert isinstance(operator, CTOperator)
    of_truth, of_noise = expected_mse(images, left_out), operator.energy(left_out.residual(images))
    assert of_truth.mean().abs() < 0.05 * of_noise.mean()


@pytest.mark.parametrize("n", [2, 3, 7, 45, 500])
def test_few_views_are_left_out_of_any_number(n: int) -> None:
    kept, left_out = parts(problem_of(SparseViewCT(n_views=n), truths(1)))
    n_left_out = left_out.y.shape[1]
    assert 1 <= n_left_out <= max(7, n / 4)
    assert kept.y.shape[1] == n - n_left_out


def test_the_batch_is_nothing_to_any_image() -> None:
    images = truths()
    spec = SparseViewCT(n_views=24, noise=PoissonNoise(n_photons=1e4))
    kept, left_out = parts(problem_of(spec, images))
    together = expected_mse(images * 0.9, left_out)
    alone = [expected_mse(images[i : i + 1] * 0.9, left_out.part(torch.tensor([i]))) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=0)
    assert kept.noise_std.shape == kept.y.shape


@pytest.mark.parametrize("spec", [CartesianMRI(), MetalCT(n_views=20)])
def test_what_has_no_views_to_leave_out_is_refused(spec: MeasurementSpec) -> None:
    with pytest.raises(UserError, match="is_cross_validated=false"):
        checked(spec.operator(SIZE))


def test_an_arc_is_refused_since_it_tells_nothing_of_the_rest() -> None:
    with pytest.raises(UserError, match="views over 120 degrees tell nothing"):
        checked(LimitedAngleCT(n_views=60, arc_degrees=120).operator(SIZE))


def test_one_view_and_scans_that_do_not_know_their_views_are_refused() -> None:
    with pytest.raises(UserError, match="one view alone"):
        checked(SparseViewCT(n_views=1).operator(SIZE))
    with pytest.raises(UserError, match="FanBeam does not say"):
        CTOperator(FanBeam(SIZE, 8, 96, 1.0, 200.0)).views([0, 1])


@pytest.mark.parametrize(("n_views", "n_wanted", "n"), [(23, 6, 6), (23, 3, 3), (23, 1, 1), (90, 2, 2), (8, 6, 2)])
def test_about_as_many_views_are_left_out_as_are_wanted(n_views: int, n_wanted: int, n: int) -> None:
    operator = SparseViewCT(n_views=n_views).operator(16)
    kept, left_out = parts(InverseProblem(operator, torch.zeros(1, *operator.data_shape)), n_left_out=n_wanted)
    assert (left_out.y.shape[-2], kept.y.shape[-2]) == (n, n_views - n)
