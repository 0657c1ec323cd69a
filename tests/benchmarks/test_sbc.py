"""The calibration of samplers by simulation knows exact draws from those that agree more than they are right."""

import pytest
import torch

from benchmarks.sbc import Oracle, cells, directions, oracles, samples_of, table
from scoreinv.samplers import DAPS
from scoreinv.samplers.grid import SigmaGrid

N_IMAGES, N_SAMPLES = 24, 15
PROMISED = (N_SAMPLES - 1) / (N_SAMPLES + 1)


@pytest.fixture(params=["MRI", "CT, noise of each ray"])
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return oracles()[request.param]


def held(oracle: Oracle, images: torch.Tensor, samples: torch.Tensor) -> list[float]:
    """Of all directions and of those that no data tell of, the share of images within their samples' range."""
    found = list(cells(images, samples, directions(oracle)))
    return [float(cell.removesuffix(" %")) / 100 for cell in found[::2]]


def test_exact_draws_hold_as_often_as_promised_and_narrow_ones_do_not(oracle: Oracle) -> None:
    images = oracle.images(N_IMAGES)
    samples = oracle.exact(oracle.problem(images), N_SAMPLES)
    assert held(oracle, images, samples) == pytest.approx([PROMISED] * 2, abs=0.04)
    centre = samples.mean(1, keepdim=True)
    assert max(held(oracle, images, centre + 0.5 * (samples - centre))) < PROMISED - 0.15


def test_exact_draws_explain_their_data(oracle: Oracle) -> None:
    images = oracle.images(N_IMAGES)
    problem = oracle.problem(images)
    draws = oracle.exact(problem, 1).view_as(images)
    residual = problem.residual(draws).abs().square().mean() / problem.residual(images).abs().square().mean()
    assert float(residual) == pytest.approx(1, abs=0.35)


def test_daps_draws_the_posterior(oracle: Oracle) -> None:
    images = oracle.images(N_IMAGES)
    method = DAPS(grid=SigmaGrid(n_levels=60, sigma_max=1.0, sigma_min=0.01))
    samples = samples_of(method, oracle.problem(images), oracle.prior, N_SAMPLES)
    assert held(oracle, images, samples) == pytest.approx([PROMISED] * 2, abs=0.06)


def test_the_table_has_a_row_for_exact_draws_and_one_for_each_sampler() -> None:
    lines = list(table(4, 3, (DAPS(grid=SigmaGrid(n_levels=3)),)))
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["exact draws", "DAPS"]
    assert len({line.count("|") for line in lines}) == 1
