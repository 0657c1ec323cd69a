"""The contract of every measurement, and of the operators behind them."""

from itertools import pairwise

import pytest
import torch
from pydantic import TypeAdapter

from scoreinv.contract import ImageContract
from scoreinv.linalg import inner
from scoreinv.measurement import GaussianNoise, MeasurementSpec, simulate
from scoreinv.noise import Noise
from scoreinv.operators import AnyMeasurement
from scoreinv.operators.ct import CTOperator, SparseViewCT
from scoreinv.operators.fourier_slice import FourierSlice
from scoreinv.operators.linear import MaskedTransform, ProjectorName, Weighted
from scoreinv.operators.mri import CartesianMRI
from tests.cases import MEASUREMENTS, missing
from tests.contracts import check_operator, check_projection_contracts, white_data, white_images

SIZE = 24
LINEAR = {name: spec for name, spec in MEASUREMENTS.items() if type(spec).measured is MeasurementSpec.measured}
"""Whose data are the operator's, under noise."""
by_name = pytest.mark.parametrize("spec", MEASUREMENTS.values(), ids=MEASUREMENTS)


def test_every_measurement_has_a_case() -> None:
    assert missing(MEASUREMENTS, AnyMeasurement) == set()


@by_name
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("size", [SIZE, SIZE + 1], ids=["even", "odd"])
def test_operator_keeps_its_promises(spec: MeasurementSpec, dtype: torch.dtype, size: int) -> None:
    check_operator(spec.operator(size), dtype=dtype)


@by_name
@pytest.mark.parametrize("size", [SIZE, SIZE + 1], ids=["even", "odd"])
def test_normal_is_the_adjoint_of_the_forward(spec: MeasurementSpec, size: int) -> None:
    operator = spec.operator(size)
    x = white_images(operator, dtype=torch.float64)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


@by_name
def test_projection_contracts(spec: MeasurementSpec) -> None:
    assert check_projection_contracts(spec.operator(SIZE)) < 0.95  # type: ignore[arg-type]


@by_name
def test_the_approximate_inverse_comes_nearer_to_the_data_in_every_round(spec: MeasurementSpec) -> None:
    operator = spec.operator(SIZE)
    assert isinstance(operator, MaskedTransform)
    x, y = torch.zeros(1, *operator.image_shape), operator.forward(smooth_image(SIZE).float())
    left = [float(y.abs().square().sum().sqrt())]
    for _ in range(5):
        x = x + operator.approximate_inverse(y - operator.forward(x)).float()
        left.append(float((y - operator.forward(x)).abs().square().sum().sqrt()))
    assert left[-1] < 0.2 * left[0]
    assert all(later < earlier or later < 1e-4 * left[0] for earlier, later in pairwise(left))


@by_name
def test_spec_round_trip_and_digest(spec: MeasurementSpec) -> None:
    read: MeasurementSpec = TypeAdapter(AnyMeasurement).validate_json(spec.model_dump_json())
    assert read == spec
    assert read.digest() == spec.digest()
    assert spec.model_copy(update={"noise": GaussianNoise(noise_std=0.1)}).digest() != spec.digest()


@by_name
def test_constant_image_keeps_its_scale_on_a_finer_grid(spec: MeasurementSpec) -> None:
    """The fine simulation of an image that both grids can hold is the coarse operator's."""
    operator = spec.operator(SIZE)
    coarse = torch.ones(1, *operator.image_shape, dtype=torch.float64)
    fine = coarse.repeat_interleave(3, -1).repeat_interleave(3, -2)
    torch.testing.assert_close(operator.simulate(fine), operator.forward(coarse), rtol=1e-6, atol=1e-6)


@by_name
def test_fine_simulation_is_near_the_operator_and_not_it(spec: MeasurementSpec) -> None:
    operator = spec.operator(SIZE)
    fine = smooth_image(2 * SIZE)
    coarse = torch.nn.functional.avg_pool2d(fine, 2)
    ours, simulated = operator.forward(coarse), operator.simulate(fine)
    difference = float((ours - simulated).abs().square().sum().sqrt() / ours.abs().square().sum().sqrt())
    assert 1e-6 < difference < 0.01


@pytest.mark.parametrize("spec", LINEAR.values(), ids=LINEAR)
def test_simulate_adds_noise_of_the_stated_level(spec: MeasurementSpec) -> None:
    noisy = spec.model_copy(update={"noise": GaussianNoise(noise_std=0.25)})
    contract = ImageContract(modality=spec.modality, size=SIZE, pixel_mm=1.0, low=-1000.0, high=1000.0)
    fine = smooth_image(2 * SIZE).float()
    result = simulate(noisy, fine, contract, Noise(0, ["a"]))
    noise = result.y - noisy.operator(SIZE).simulate(fine)
    parts = torch.view_as_real(noise) if noise.is_complex() else noise
    n = parts.numel()
    assert result.noise_std.tolist() == [0.25]
    assert abs(float(parts.std()) / 0.25 - 1) < 5 / n**0.5


@by_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_of_two_channels_keep_their_promises(spec: MeasurementSpec, dtype: torch.dtype) -> None:
    """Complex images in MRI; in CT two images, such as those of two energies."""
    operator = spec.operator(SIZE, n_channels=2)
    assert operator.image_shape == (2, SIZE, SIZE)
    check_operator(operator, dtype=dtype)


def test_a_weighted_operator_keeps_the_promises_of_operators() -> None:
    """Per image; also for the images in some places of the batch."""
    for spec in (CartesianMRI(acceleration=2), SparseViewCT(n_views=5)):
        plain = spec.operator(8)
        weights = 0.5 + torch.rand(
            3, *plain.data_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        operator = Weighted(plain, weights)
        x, y = white_images(operator, n=3), white_data(operator, n=3)
        torch.testing.assert_close(operator.forward(x), weights * plain.forward(x))
        torch.testing.assert_close(inner(operator.forward(x), y), inner(x, operator.adjoint(y)))
        torch.testing.assert_close(operator.direct(operator.forward(x)), plain.direct(plain.forward(x)))
        places = torch.tensor([2, 0, 2])
        part = operator.part(places)
        torch.testing.assert_close(part.forward(x[places]), operator.forward(x)[places])
        torch.testing.assert_close(part.norm(), operator.norm()[places])
        alone = torch.cat([Weighted(plain, one[None]).norm() for one in weights])
        torch.testing.assert_close(operator.norm(), alone)


@pytest.mark.parametrize("n_channels", [2, 3])
def test_ct_of_channels_keeps_its_promises(n_channels: int) -> None:
    geometry = SparseViewCT(n_views=9).geometry(SIZE)
    operator = CTOperator(geometry, n_full=180, n_channels=n_channels)
    assert operator.data_shape == (n_channels, *geometry.data_shape)
    check_operator(operator)
    assert check_projection_contracts(operator) < 0.95


def test_ct_projects_channel_by_channel() -> None:
    geometry = SparseViewCT(n_views=9).geometry(SIZE)
    one, two = CTOperator(geometry, n_full=180), CTOperator(geometry, n_full=180, n_channels=2)
    for size, alone, together in ((SIZE, one.forward, two.forward), (2 * SIZE, one.simulate, two.simulate)):
        x = torch.randn(3, 2, size, size)
        torch.testing.assert_close(together(x), torch.stack([alone(x[:, [channel]]) for channel in (0, 1)], dim=1))
    y = torch.randn(3, *two.data_shape)
    for alone, together in ((one.adjoint, two.adjoint), (one.direct, two.direct), (one.correct, two.correct)):
        torch.testing.assert_close(together(y), torch.cat([alone(y[:, channel]) for channel in (0, 1)], dim=1))
    grid, cells = two.as_fourier_slice(y)
    assert grid.image_shape == two.image_shape
    torch.testing.assert_close(
        cells, torch.stack([one.as_fourier_slice(y[:, channel])[1] for channel in (0, 1)], dim=1)
    )


@pytest.mark.parametrize("n_channels", [1, 2])
def test_fourier_slice_keeps_its_promises(n_channels: int) -> None:
    operator = FourierSlice(SIZE, SparseViewCT(n_views=9).angles(), n_channels=n_channels)
    for dtype in (torch.float64, torch.float32):
        check_operator(operator, dtype=dtype)
    assert check_projection_contracts(operator) < 0.2


@pytest.mark.parametrize("projector", ["astra", "torch_radon"])
def test_projectors_keep_their_promises(projector: ProjectorName) -> None:
    pytest.importorskip(projector)
    if projector == "torch_radon" and not torch.cuda.is_available():
        pytest.skip("torch_radon needs CUDA")
    operator = SparseViewCT(n_views=9).operator(SIZE).with_projector(projector)
    # torch_radon interpolates on both ways, so its backprojection is the adjoint to about a per cent.
    check_operator(operator, dtype=torch.float32, tolerance={"astra": 1e-3, "torch_radon": 3e-2}[projector])


def smooth_image(size: int) -> torch.Tensor:
    """Two wide blobs off the centre (1, 1, size, size), zero near the border."""
    grid = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size - 1
    blobs = [
        torch.exp(-((grid - x) ** 2 + (grid[:, None] - y) ** 2) / (2 * width**2))
        for x, y, width in ((0.2, -0.1, 0.2), (-0.3, 0.25, 0.15))
    ]
    return sum(blobs, torch.zeros(size, size, dtype=torch.float64))[None, None]


def test_white_images_are_reproducible() -> None:
    operator = SparseViewCT(n_views=3).operator(SIZE)
    assert torch.equal(white_images(operator), white_images(operator))
