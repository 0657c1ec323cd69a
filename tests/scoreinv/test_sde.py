"""Both SDEs, simulated, give the marginals they promise."""

import math

import pytest
import torch
from pydantic import TypeAdapter

from scoreinv.sde import SDE, VE, VP, AnySDE

TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)


@pytest.mark.parametrize("sde", [VE(), VE(sigma_min=0.002, sigma_max=220), VP(), VP(beta_min=0.5, beta_max=10)])
def test_time_is_the_inverse_of_sigma(sde: SDE) -> None:
    torch.testing.assert_close(sde.time(sde.sigma(TIMES)), TIMES, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("sde", [VE(), VP()])
def test_time_is_the_inverse_of_sigma_in_single_precision(sde: SDE) -> None:
    t = TIMES.float()
    torch.testing.assert_close(sde.time(sde.sigma(t)), t, atol=2e-6, rtol=1e-5)


def test_ve_runs_from_sigma_min_to_sigma_max_in_equal_factors() -> None:
    sigma = VE().sigma(TIMES)
    assert sigma[0].item() == pytest.approx(0.01)
    assert sigma[50].item() == pytest.approx(math.sqrt(0.01 * 128))
    assert sigma[-1].item() == pytest.approx(128)
    assert torch.equal(VE().scale(TIMES), torch.ones_like(TIMES))


def test_vp_keeps_unit_variance() -> None:
    scale, sigma = VP().scale(TIMES), VP().sigma(TIMES)
    torch.testing.assert_close(scale**2 + (scale * sigma) ** 2, torch.ones_like(TIMES))
    assert scale[-1].item() == pytest.approx(math.exp(-0.25 * 19.9 - 0.05))


@pytest.mark.parametrize("end", [0.3, 1.0])
@pytest.mark.parametrize("sde", [VE(), VP()])
def test_a_simulated_path_has_the_promised_mean_and_deviation(sde: SDE, end: float) -> None:
    n_particles, start = 20_000, 0.7
    x = _simulate(sde, torch.full((n_particles,), start, dtype=torch.float64), end)
    at_end = torch.tensor(end, dtype=torch.float64)
    scale, sigma = sde.scale(at_end).item(), sde.sigma(at_end).item()
    # VE ignores that the image at t = 0 has no noise yet: the exact variance is sigma^2 - sigma_min^2.
    std = math.sqrt((scale * sigma) ** 2 - sde.sigma(torch.zeros(())).item() ** 2)
    assert x.mean().item() == pytest.approx(scale * start, abs=4 * std / math.sqrt(n_particles) + 1e-3)
    assert x.std().item() == pytest.approx(std, rel=4 / math.sqrt(2 * n_particles) + 1e-3)


def _simulate(sde: SDE, x: torch.Tensor, end: float) -> torch.Tensor:
    """Euler-Maruyama with the coefficients of each step's middle."""
    n_steps = 1000
    generator, step = torch.Generator().manual_seed(0), end / n_steps
    for index in range(n_steps):
        t = torch.full_like(x, (index + 0.5) * step)
        noise = torch.randn(len(x), generator=generator, dtype=x.dtype)
        x = x + step * sde.drift(x, t) + math.sqrt(step) * sde.diffusion(t) * noise
    return x


def test_drift_takes_one_time_per_image() -> None:
    x, t = torch.ones(3, 1, 2, 2), torch.tensor([0.0, 0.5, 1.0])
    expected = -0.5 * (0.1 + 19.9 * t).view(3, 1, 1, 1) * x
    torch.testing.assert_close(VP().drift(x, t), expected)
    assert not VE().drift(x, t).any()


@pytest.mark.parametrize("sde", [VE(sigma_max=55), VP(beta_max=10)])
def test_an_sde_is_found_again_by_its_kind(sde: SDE) -> None:
    adapter: TypeAdapter[SDE] = TypeAdapter(AnySDE)
    assert adapter.validate_json(sde.model_dump_json()) == sde
