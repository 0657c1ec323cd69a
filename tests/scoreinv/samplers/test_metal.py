"""Samplers and TV where metal hides rays: the masked problem is theirs as any other is."""

import pytest
import torch

from scoreinv.baselines import LinearInterpolation, TotalVariation
from scoreinv.denoiser import MixtureDenoiser
from scoreinv.errors import UserError
from scoreinv.noise import Noise
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.samplers import DDS, Bregman, Projection
from scoreinv.samplers.grid import SigmaGrid
from tests.metal import IMAGE, NAMES, bodies, data

SPEC = MetalCT(n_views=45, metal="hip_head")
GRID = SigmaGrid(n_levels=15, sigma_max=0.3, sigma_min=0.01, spacing="geometric")
METHODS: dict[str, Method] = {
    "bregman": Bregman(grid=GRID, data_floor=1e-3),
    "dds": DDS(grid=GRID, data_floor=1e-3),
    "projection": Projection(grid=GRID.model_copy(update={"n_levels": 40}), strength=0.9, snr=0.16),
    "tv": TotalVariation(weight=5e-5, n_iters=150),
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def denoiser() -> MixtureDenoiser:
    """Of bodies like these, in which organs lie elsewhere and all values are a little off."""
    return MixtureDenoiser(torch.cat([bodies(), bodies().roll(2, -1), 1.05 * bodies()])[:, 0], std=0.03)


def solve(method: Method, problem: InverseProblem, names: list[str]) -> torch.Tensor:
    return reconstruct(method, problem, denoiser(), noise=Noise(0, names)).x


@each_method
def test_each_is_nearer_to_the_truth_outside_the_metal_than_lines_across_the_trace(method: Method) -> None:
    measured = data(SPEC)
    problem, scored = InverseProblem.of(SPEC, measured, IMAGE), SPEC.scored(measured.context)
    images = (solve(one, problem, NAMES) for one in (method, LinearInterpolation()))
    ours, li = (((x - bodies()).abs() * scored).mean((1, 2, 3)) for x in images)
    assert bool((ours < 0.8 * li).all())


@each_method
def test_a_slice_alone_equals_itself_among_others(method: Method) -> None:
    problem = InverseProblem.of(SPEC, data(SPEC), IMAGE)
    together = solve(method, problem, NAMES)
    alone = solve(method, problem.part(torch.tensor([1])), NAMES[1:2])
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-3)


def test_the_fourier_slice_is_refused() -> None:
    problem = InverseProblem.of(SPEC, data(SPEC), IMAGE)
    with pytest.raises(UserError, match="take residual"):
        solve(Projection(grid=GRID, transform="fourier_slice"), problem, NAMES)
