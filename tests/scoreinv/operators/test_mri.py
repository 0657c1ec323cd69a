import math

import pytest
import torch

from scoreinv.contract import ImageContract
from scoreinv.operators.fourier import fft2c
from scoreinv.operators.mri import CartesianMRI, CartesianMRIOperator


def noise(n: int, size: int) -> torch.Tensor:
    return torch.randn(n, 1, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pattern", ["paper", "equispaced", "random", "variable_density"])
@pytest.mark.parametrize("size", [64, 65])
def test_one_projection_explains_the_data_of_a_real_image(pattern: str, size: int) -> None:
    operator = CartesianMRI.model_validate({"acceleration": 4, "pattern": pattern}).operator(size)
    y = operator.forward(noise(2, size))
    x = operator.project(torch.zeros(2, 1, size, size, dtype=torch.float64), y, strength=1.0)
    assert float((operator.forward(x) - y).abs().max()) < 1e-10


def test_paper_faithful_projection_leaves_44_per_cent() -> None:
    """24 of 31 columns have no measured mirror; each keeps half: sqrt(24 / 31) / 2 = 0.44 for white images."""
    operator = CartesianMRI(acceleration=8, paper_faithful=True).operator(240)
    y = operator.forward(noise(2, 240))
    x = operator.project(torch.zeros(2, 1, 240, 240, dtype=torch.float64), y, strength=1.0)
    left = float((operator.forward(x) - y).norm() / y.norm())
    assert abs(left - math.sqrt(24 / 31) / 2) < 0.005
    torch.testing.assert_close(x, operator.adjoint(y))


def test_correct_is_the_pseudo_inverse() -> None:
    """Against a dense pseudo-inverse over the reals, on data that no real image explains."""
    operator = CartesianMRI(acceleration=3, pattern="random", seed=3).operator(8)
    basis = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
    matrix = torch.view_as_real(operator.forward(basis)).flatten(1).T
    y = fft2c(noise(1, 8)) + 1j * fft2c(noise(1, 8).flip(-1))
    expected = torch.linalg.pinv(matrix) @ torch.view_as_real(y * operator.mask).flatten()
    torch.testing.assert_close(operator.correct(y).flatten(), expected)


def test_transform_and_mask_make_the_operator() -> None:
    operator = CartesianMRI(acceleration=4).operator(32)
    x = noise(2, 32)
    torch.testing.assert_close(operator.inverse_transform(operator.transform(x)), x)
    assert torch.equal(operator.forward(x), operator.transform(x) * operator.mask)
    assert bool((operator.forward(x)[~operator.mask.expand(2, 1, 32, 32)] == 0).all())


def test_mask_of_rows_gives_other_data() -> None:
    columns = CartesianMRI(acceleration=4).mask(32)
    x = noise(1, 32)
    rows = CartesianMRIOperator(columns[:, None], 32).forward(x)
    by_column = CartesianMRIOperator(columns, 32).forward(x)
    assert not torch.allclose(rows, by_column)
    torch.testing.assert_close(rows, CartesianMRIOperator(columns, 32).forward(x.mT).mT)


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("kind", ["rows", "points", "all"])
def test_normal_knows_every_kind_of_mask(kind: str, size: int) -> None:
    points = torch.rand(size, size, generator=torch.Generator().manual_seed(1)) < 0.4
    mask = {"rows": points[:, :1], "points": points, "all": torch.ones(size, dtype=torch.bool)}[kind]
    operator, x = CartesianMRIOperator(mask, size), noise(2, size)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


def test_zero_filled_is_the_direct_reconstruction() -> None:
    operator = CartesianMRI(acceleration=4).operator(32)
    y = operator.forward(noise(2, 32))
    assert operator.direct_name == "zero-filled"
    assert torch.equal(operator.direct(y), operator.inverse_transform(y))
    full = CartesianMRI(acceleration=1).operator(32)
    torch.testing.assert_close(full.direct(full.forward(noise(2, 32))), noise(2, 32))


def test_float32_data_are_complex64() -> None:
    operator = CartesianMRI().operator(32)
    assert operator.forward(noise(1, 32).float()).dtype == torch.complex64


def test_a_mask_of_mirror_pairs_is_told_of_where_other_columns_tell_more() -> None:
    image = ImageContract(modality="mri", size=128, pixel_mm=1.875, low=0, high=1)
    (said,) = CartesianMRI(acceleration=4).notes(image)
    assert said == (
        "columns that mirror each other tell the same of a real image: the 32 that are acquired tell of 33, as many "
        "with pattern=equispaced would of 55"
    )
    assert CartesianMRI(acceleration=8).notes(image) == []
    assert CartesianMRI(acceleration=4, pattern="equispaced").notes(image) == []
    assert CartesianMRI(acceleration=4).notes(image.model_copy(update={"n_channels": 2})) == []
