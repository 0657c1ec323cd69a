"""How strong a regularisation is under noise: one rule for every operator and every noise."""

import pytest
import torch
from torch import Tensor

from scoreinv.baselines import TotalVariation, Wavelet
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator, Weighted
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct

SIZE = 48
CASES = {
    "ct-20": (SparseViewCT(n_views=20), 1.0),
    "ct-40": (SparseViewCT(n_views=40), 2.0),
    "mri": (CartesianMRI(acceleration=2), 0.05),
}
METHODS = [TotalVariation(weight=5e-5, n_iters=150), Wavelet(weight=1e-4, n_iters=150)]


def phantom() -> Tensor:
    return torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()[None, None]


def noisy(operator: LinearOperator, images: Tensor, level: Tensor) -> InverseProblem:
    """White noise, where k-space is measured at all."""
    clean = operator.forward(images)
    draw = torch.randn(clean.shape, dtype=clean.dtype, generator=torch.Generator().manual_seed(3))
    noise = level.view(-1, *[1] * (clean.ndim - 1)) * draw * (1 if not clean.is_complex() else 2**0.5)
    return InverseProblem(operator, clean + noise * (clean != 0), level)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", METHODS, ids=["tv", "wavelet"])
def test_a_quarter_and_four_times_the_weight_of_noise_are_worse(method: TotalVariation | Wavelet, name: str) -> None:
    measurement, level = CASES[name]
    problem = noisy(measurement.operator(SIZE), phantom(), torch.tensor([level]))
    errors = []
    for factor in (0.0, 0.25, 1.0, 4.0):
        tried = method.model_copy(update={"noise_weight": factor * method.noise_weight})
        errors.append(float((reconstruct(tried, problem, noise=Noise(0, ["0"])).x - phantom()).square().mean()))
    none, little, right, much = errors
    assert right < 0.8 * none
    assert right < little
    assert right < much


@pytest.mark.parametrize("method", METHODS, ids=["tv", "wavelet"])
def test_noise_of_one_image_changes_no_other_of_the_batch(method: TotalVariation | Wavelet) -> None:
    measurement, level = CASES["ct-20"]
    pair = noisy(measurement.operator(SIZE), phantom().expand(2, -1, -1, -1), torch.tensor([0.0, level]))
    both = reconstruct(method, pair, noise=Noise(0, ["0", "1"])).x
    for place in range(2):
        alone = reconstruct(method, pair.part(torch.tensor([place])), noise=Noise(0, [str(place)])).x
        torch.testing.assert_close(both[place : place + 1], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_the_columns_are_as_long_as_two_images_of_noise_say(name: str) -> None:
    operator = CASES[name][0].operator(SIZE)
    places = torch.randperm(SIZE * SIZE, generator=torch.Generator().manual_seed(0))[:200]
    pixels = torch.eye(SIZE * SIZE)[places].view(-1, 1, SIZE, SIZE)
    exact = operator.forward(pixels).abs().square().flatten(1).sum(1).mean().sqrt()
    assert operator.column_norm() == pytest.approx(float(exact), rel=0.05)
    twice = Weighted(
        operator,
        torch.full((2, *operator.data_shape), 2.0)
        * torch.tensor([1.0, 3.0]).view(2, 1, 1, *[1] * (len(operator.data_shape) - 2)),
    )
    torch.testing.assert_close(twice.column_norm(), operator.column_norm() * torch.tensor([2.0, 6.0]))
    torch.testing.assert_close(twice.part(torch.tensor([1])).column_norm(), 6 * operator.column_norm())
