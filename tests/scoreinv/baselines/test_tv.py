import pytest
import torch

from scoreinv.baselines.tv import TotalVariation, denoise_tv, differences, less_divergence
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct, run

SIZE = 32


def energy(x: torch.Tensor, v: torch.Tensor, weight: float) -> torch.Tensor:
    return (x - v).square().sum() / 2 + weight * differences(x).norm(dim=1).sum()


def random_images(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 1, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def no_dual(v: torch.Tensor) -> torch.Tensor:
    return v.new_zeros(len(v), 2, *v.shape[2:])


def test_divergence_is_the_adjoint_of_the_differences():
    x = random_images()
    p = torch.rand(2, 2, 9, 7, dtype=torch.float64)
    divergence = (less_divergence(x, torch.tensor(0.5), p) - x) / -0.5
    assert float((differences(x) * p).sum()) == pytest.approx(float((x * divergence).sum()))


def test_denoising_reaches_the_minimum():
    """No small change of the result has a smaller energy, and the gap of primal and dual closes."""
    v = random_images(1)
    x, dual = denoise_tv(v, 0.1, dual=no_dual(v), n_iters=3000)
    lowest = energy(x, v, 0.1)
    generator = torch.Generator().manual_seed(1)
    for scale in (1e-1, 1e-2, 1e-3):
        change = scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        assert energy((x + change).clamp_min(0), v, 0.1) > lowest
    assert float(dual.norm(dim=1).max()) <= 1 + 1e-9
    gap = 0.1 * differences(x).norm(dim=1).sum() - 0.1 * (differences(x) * dual).sum()
    assert float(gap) < 1e-4


def test_a_step_keeps_its_place_and_loses_the_height_that_theory_says():
    """TV denoising of a step between two halves of n columns moves each by weight / n."""
    v = torch.zeros(1, 1, 6, 8, dtype=torch.float64)
    v[..., :4] = 0.2
    v[..., 4:] = 1.0
    x, _ = denoise_tv(v, 0.1, dual=no_dual(v), n_iters=5000)
    torch.testing.assert_close(x[..., :4], torch.full_like(x[..., :4], 0.2 + 0.1 / 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(x[..., 4:], torch.full_like(x[..., 4:], 1.0 - 0.1 / 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "measurement", [CartesianMRI(acceleration=4), SparseViewCT(n_views=11, n_full=48)], ids=["mri", "ct"]
)
def test_a_phantom_of_flat_regions_comes_back_far_better_than_directly(measurement):
    truth = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()[None, None]
    operator = measurement.operator(SIZE)
    problem = InverseProblem(operator, operator.forward(truth))
    steps = list(run(TotalVariation(weight=3e-4), problem, noise=Noise(0, ["0"])))
    direct = (operator.direct(problem.y) - truth).square().mean()
    assert float((steps[-1].x - truth).square().mean()) < 0.2 * float(direct)
    assert problem.residual(steps[-1].x).norm() < 0.2 * problem.residual(steps[0].x).norm()


def test_more_weight_means_less_variation():
    truth = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()[None, None]
    operator = SparseViewCT(n_views=7).operator(SIZE)
    problem = InverseProblem(operator, operator.forward(truth))
    results = [reconstruct(TotalVariation(weight=w), problem, noise=Noise(0, ["0"])).x for w in (1e-4, 1e-3, 1e-2)]
    variations = [float(differences(x).norm(dim=1).sum()) for x in results]
    assert variations == sorted(variations, reverse=True)
