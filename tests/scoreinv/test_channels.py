"""Methods that no other test gives two channels: complex images whose phase varies are found, and drawn."""

import pytest
import torch
from torch import Tensor

from scoreinv.baselines import Direct, TotalVariation, Wavelet
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.samplers import Heun, PredictorCorrector
from scoreinv.samplers.grid import SigmaGrid
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, stationary_prior, two_channels

MEASUREMENTS = {"mri": CartesianMRI(acceleration=1.5, pattern="variable_density"), "ct": SparseViewCT(n_views=15)}


def images(size: int = 32) -> Tensor:
    head = torch.from_numpy(rasterise(SHEPP_LOGAN, size)).float()
    phase = torch.linspace(0, 5, size)
    return torch.stack([head * phase.cos(), head * phase.sin()])[None]


@pytest.mark.parametrize("modality", MEASUREMENTS)
@pytest.mark.parametrize("method", [TotalVariation(weight=1e-4, n_iters=100), Wavelet(weight=1e-4, n_iters=100)])
def test_baselines_find_images_of_two_channels_negative_values_and_all(method: Method, modality: str):
    operator, truth = MEASUREMENTS[modality].operator(32, n_channels=2), images()
    problem = InverseProblem(operator, operator.forward(truth))
    errors = [
        float((reconstruct(one, problem, noise=Noise(0, ["a"])).x - truth).norm() / truth.norm())
        for one in (method, Direct())
    ]
    assert errors[0] < 0.7 * errors[1]
    assert errors[0] < 0.35


@pytest.mark.parametrize("method", [Heun(), PredictorCorrector(grid=SigmaGrid(n_levels=200, sigma_max=20.0), snr=0.0)])
def test_unconditional_samples_have_the_correlation_of_the_channels(method: Method):
    prior = two_channels(stationary_prior())
    problem = InverseProblem(
        CartesianMRI(acceleration=2).operator(SIZE, n_channels=2), torch.zeros(400, 1, SIZE, SIZE) + 0j
    )
    x = reconstruct(method, problem, prior, noise=BatchNoise(400)).x - 0.5
    correlation = float((x[:, 0] * x[:, 1]).mean() / x.square().mean())
    assert correlation == pytest.approx(0.5, abs=0.08)
