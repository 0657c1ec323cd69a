"""Images hold means over pixels: data of what lies within them are explained by operators that know so."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from scoreinv.contract import ImageContract
from scoreinv.measurement import GaussianNoise, Measured, MeasurementSpec, simulate
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT, residual_step
from scoreinv.operators.mri import CartesianMRI
from scoreinv.operators.pixels import SCANNER, curvature_within, kept_by_means, sharper
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem
from tests.contracts import check_operator

SIZE = 32
CT = ImageContract(modality="ct", size=SIZE, pixel_mm=8.0, low=-1000, high=1000)
MRI = ImageContract(modality="mri", size=SIZE, pixel_mm=6.0, low=0, high=1)


def smooth(factor: int) -> Tensor:
    """A blurred phantom on a grid that is finer by a factor, (1, 1, factor * SIZE, factor * SIZE)."""
    n = factor * SIZE
    spectrum = torch.fft.fft2(torch.from_numpy(rasterise(SHEPP_LOGAN, n)).float())
    waves = torch.fft.fftfreq(n) * factor
    blurred = torch.fft.ifft2(spectrum * torch.exp(-60 * (waves**2 + waves[:, None] ** 2))).real
    return blurred[None, None]


def relative_residual(spec: MeasurementSpec, image: ImageContract, factor: int, said: float) -> float:
    """|y - A x| / |y| of a smooth image's means, where data are taken to be of an image ``said`` times finer."""
    fine = smooth(factor)
    measured = simulate(spec, fine, image, Noise(0, ["one"]))
    assert measured.fine_factor == factor
    problem = InverseProblem.of(spec, measured._replace(fine_factor=said), image)
    return float(problem.residual(avg_pool2d(fine, factor)).norm() / problem.y.norm())


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_means_over_blocks_of_a_wave(factor: int) -> None:
    k = 5
    positions = (torch.arange(factor * SIZE, dtype=torch.float64) + 0.5) / factor - 0.5
    wave = torch.cos(2 * torch.pi * k * positions / SIZE)
    means = wave.view(SIZE, factor).mean(1)
    samples = torch.cos(2 * torch.pi * k * torch.arange(SIZE, dtype=torch.float64) / SIZE)
    assert torch.allclose(means, kept_by_means(SIZE, factor)[SIZE // 2 + k] * samples)


@pytest.mark.parametrize("factor", [2, 4, SCANNER])
def test_curvature_is_that_of_the_means(factor: float) -> None:
    kept, w = kept_by_means(4096, factor)[4096 // 2 + 20], 2 * math.pi * 20 / 4096
    assert float((1 / kept**2 - 1) / w**2) == pytest.approx(curvature_within(factor), rel=1e-3)


def test_images_themselves_are_flat() -> None:
    assert curvature_within(1) == 0
    assert torch.equal(kept_by_means(SIZE, 1), torch.ones(SIZE, dtype=torch.float64))


def test_constants_keep_their_value_when_made_sharper() -> None:
    assert torch.allclose(sharper(torch.full((2, 1, 5, 7), 0.3), 0.08), torch.tensor(0.3))


@pytest.mark.parametrize("factor", [2, 4])
def test_sinograms_of_finer_images_are_explained_twice_as_well(factor: int) -> None:
    spec = SparseViewCT(n_views=20)
    assert relative_residual(spec, CT, factor, factor) < 0.5 * relative_residual(spec, CT, factor, 1)


def test_sinograms_of_a_scanner_are_explained_nearly_as_well() -> None:
    spec = SparseViewCT(n_views=20)
    assert relative_residual(spec, CT, 4, SCANNER) < 0.5 * relative_residual(spec, CT, 4, 1)


@pytest.mark.parametrize("factor", [2, 4])
def test_k_space_of_finer_images_is_explained_to_rounding(factor: int) -> None:
    spec = CartesianMRI(acceleration=2)
    assert relative_residual(spec, MRI, factor, factor) < 1e-6
    assert relative_residual(spec, MRI, factor, 1) > 1e-3


def test_k_space_of_a_scanner_stays_as_it_is() -> None:
    measured = simulate(CartesianMRI(), smooth(1), MRI, Noise(0, ["one"]))._replace(fine_factor=SCANNER)
    assert torch.equal(InverseProblem.of(CartesianMRI(), measured, MRI).y, measured.y)


def test_noise_of_k_space_is_less_by_what_the_means_keep() -> None:
    spec = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.1))
    names = [str(place) for place in range(20)]
    measured = simulate(spec, torch.zeros(20, 1, 2 * SIZE, 2 * SIZE), MRI, Noise(0, names))
    problem = InverseProblem.of(spec, measured, MRI)
    found = problem.y[:, :, problem.operator.mask[0]].real.square().mean().sqrt()
    assert float(found / problem.noise_std[0]) == pytest.approx(1, abs=0.02)
    assert float(problem.noise_std[0]) < 0.095


def test_the_adjoint_is_of_the_sharper_image_and_direct_reconstructions_are_not() -> None:
    flat = SparseViewCT(n_views=7).operator(SIZE)
    operator = flat.with_curvature(curvature_within(2))
    check_operator(operator)
    y = torch.randn(1, *operator.data_shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(operator.direct(y), flat.direct(y))


def test_corrections_never_diverge() -> None:
    """A sharper image answers more strongly: the step of Algorithm 2 is lowered where it has to be."""
    operator = SparseViewCT(n_views=SIZE, n_full=SIZE).operator(SIZE).with_curvature(curvature_within(SCANNER))
    assert residual_step(operator.geometry, SIZE, operator.curvature) < residual_step(operator.geometry, SIZE)
    x = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    for correct in (operator.correct, operator.approximate_inverse):
        error = x
        for _ in range(30):
            error = error - correct(operator.forward(error))
        assert error.norm() < x.norm()


def test_slices_of_a_batch_keep_how_fine_they_are() -> None:
    measured = Measured(torch.zeros(3, 2), torch.zeros(3), fine_factor=4)
    assert measured.part(torch.tensor([1])).to(torch.device("cpu")).fine_factor == 4
