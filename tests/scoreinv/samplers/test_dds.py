"""The start of DDS, image by image, and its mirrored calls; its samples are compared with exact ones in test_oracle."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from scoreinv.noise import Noise
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import DDS
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.renoise import Renoise
from scoreinv.samplers.start import GradedTVStart, TVStart
from scoreinv.spec import note_moved
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, varying_prior

GRID = SigmaGrid(n_levels=6, sigma_max=0.3, sigma_min=0.01)
TV = TVStart(n_iters=20)
NAMES = ["flat", "noise"]


class Recorder:
    """A denoiser that changes nothing and remembers the levels it was asked for, (calls, batch)."""

    def __init__(self) -> None:
        self.levels: list[Tensor] = []

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.levels.append(sigma)
        return x


def problem() -> InverseProblem:
    """A phantom that TV finds, and white noise that it does not."""
    phantom = torch.from_numpy(rasterise(SHEPP_LOGAN, 32)).float()
    noise = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    operator = CartesianMRI(acceleration=2).operator(32)
    return InverseProblem(operator, operator.forward(torch.stack([phantom, noise])[:, None]))


def asked_levels(method: DDS) -> Tensor:
    recorder = Recorder()
    reconstruct(method, problem(), recorder, noise=Noise(0, NAMES))
    return torch.stack(recorder.levels)


def test_every_image_begins_at_its_own_level_and_goes_down_in_the_grids_steps():
    levels = asked_levels(DDS(grid=GRID, start=GradedTVStart(n_iters=20, factor=4.0)))
    assert levels[0, 0] < levels[0, 1]
    torch.testing.assert_close(levels / levels[0], (GRID.levels()[:-1] / GRID.sigma_max)[:, None].expand(-1, 2))


def test_no_image_begins_above_the_grid_and_without_a_factor_all_begin_there():
    assert torch.equal(
        asked_levels(DDS(grid=GRID, start=GradedTVStart(n_iters=20, factor=1e6))),
        asked_levels(DDS(grid=GRID, start=TV)),
    )
    assert asked_levels(DDS(grid=GRID, start=TV))[0].tolist() == pytest.approx([0.3, 0.3])


def test_an_image_that_did_not_move_has_a_level_all_the_same():
    black = InverseProblem(CartesianMRI(acceleration=2).operator(32), torch.zeros(1, 1, 32, 32, dtype=torch.complex64))
    x = reconstruct(
        DDS(grid=GRID, start=GradedTVStart(n_iters=20, factor=4.0)), black, Recorder(), noise=Noise(0, ["a"])
    ).x
    assert x.abs().max() < 1e-3


class Counted(BatchNoise):
    """Noise that counts its draws."""

    n_draws = 0

    def normal(self, shape: Sequence[int], *, device: torch.device | None = None) -> Tensor:
        self.n_draws += 1
        return super().normal(shape, device=device)


@pytest.mark.parametrize(("fresh_above", "n_fresh"), [(0.0, 6), (float(GRID.levels()[3]), 3), (0.3, 0)])
def test_noise_is_fresh_at_the_first_levels_alone(fresh_above: float, n_fresh: int):
    noise, start = Counted(2), 1
    reconstruct(DDS(grid=GRID, renoise=Renoise(fresh_above=fresh_above)), problem(), Recorder(), noise=noise)
    assert noise.n_draws == start + n_fresh


def test_without_fresh_noise_a_temperature_takes_the_noise_away_within_a_few_levels():
    prior, operator = varying_prior(), CartesianMRI(acceleration=2).operator(SIZE)
    truth = prior.sample(BatchNoise(1).normal(operator.image_shape)).float().expand(200, -1, -1, -1)
    case = InverseProblem(operator, operator.forward(truth))
    grid = SigmaGrid(n_levels=30, sigma_max=0.3, sigma_min=0.01)
    spread = [
        reconstruct(DDS(grid=grid, renoise=Renoise(eta=0.0, temperature=t)), case, prior, noise=BatchNoise(200))
        .x.std(0)
        .mean()
        for t in (1.0, 0.5)
    ]
    assert spread[1] < 0.2 * spread[0]


def test_an_error_that_the_network_makes_on_one_side_is_halved_by_mirrored_calls():
    prior, operator = varying_prior(), CartesianMRI(acceleration=2).operator(SIZE)
    truth = prior.sample(BatchNoise(1).normal(operator.image_shape)).float().expand(200, -1, -1, -1)
    ramp = torch.linspace(-0.1, 0.1, SIZE)

    def biased(x: Tensor, sigma: Tensor) -> Tensor:
        return prior(x, sigma) + ramp

    case = InverseProblem(operator, operator.forward(truth))
    means = [
        reconstruct(DDS(grid=GRID, symmetry=symmetry), case, denoiser, noise=BatchNoise(200)).x.mean(0)
        for denoiser, symmetry in ((prior, "none"), (biased, "none"), (biased, "flip"))
    ]
    off, less = (float((mean - means[0]).norm()) for mean in means[1:])
    assert off > 0.1
    assert less < 0.6 * off


def test_options_of_an_earlier_version_mean_the_same(caplog: pytest.LogCaptureFixture):
    note_moved.cache_clear()
    old = {
        "kind": "dds",
        "grid": {"n_levels": 50, "sigma_max": 0.3, "sigma_min": 0.003},
        "start": {"kind": "tv", "n_iters": 20},
        "start_factor": 8,
        "is_mirrored": True,
        "fresh_share": 0.1,
        "temperature": 0.6,
        "eta": 0.9,
        "noise_floor": 2e-4,
    }
    method = DDS.model_validate(old)
    levels = method.grid.levels()
    assert method.start == GradedTVStart(n_iters=20, factor=8)
    assert method.symmetry == "flip"
    assert method.data_floor == 2e-4
    assert method.renoise == Renoise(eta=0.9, temperature=0.6, fresh_above=float(levels[5]))
    assert len(caplog.messages) == 6
    plain = DDS.model_validate({"is_mirrored": False, "start_factor": 0.0, "fresh_share": 1.0})
    assert plain == DDS()
