"""The shipped priors: whole, described, and trained as their contracts say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as tensors_of
from torch import Tensor

from scoreinv.baselines import TotalVariation
from scoreinv.baselines.tv import estimated_error
from scoreinv.contract import PriorContract
from scoreinv.denoiser import score
from scoreinv.measurement import MeasurementSpec, simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct, run
from scoreinv.samplers import DDS
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.start import GradedTVStart, TVStart
from scoreinv.training.checkpoint import COARSE
from storage.listing import Listing
from storage.models import load, shipped
from storage.resample import prepare
from storage.sources import DicomSource, NiftiSource
from tasks.workers.priors import load_prior

EXAMPLES = Path(__file__).parents[1] / "examples"
SOURCES = {"ct": DicomSource(path=str(EXAMPLES / "ct")), "mri": NiftiSource(path=str(EXAMPLES / "mri"))}
MEASUREMENTS: dict[str, MeasurementSpec] = {"ct": SparseViewCT(n_views=23), "mri": CartesianMRI(acceleration=8)}
PERMISSIVE = ("CC", "MIT", "Apache", "PDDL")
MEGABYTE = 1_000_000
FEW_CALLS = DDS(grid=SigmaGrid(n_levels=20, sigma_max=0.5, sigma_min=0.005))


def images(contract: PriorContract, *, fine_factor: int = 1) -> Tensor:
    """The bundled slices on the prior's grid, or one that is finer; the prior has seen none of their patients."""
    source = SOURCES[contract.image.modality]
    listing: Listing = source.listing()
    pairs = zip(listing.slices, source.load(listing.slices), strict=True)
    place = 0 if fine_factor == 1 else 1
    grids = [prepare(v, record.spacing_mm, contract.image, fine_factor=fine_factor)[place] for record, v in pairs]
    return torch.from_numpy(np.stack(grids))[:, None].float()


def test_one_prior_ships_for_each_modality():
    assert {load(name)[1].image.modality for name in shipped()} == {"ct", "mri"}


def test_what_ships_fits_into_a_clone():
    assert sum(len(load(name)[0]) for name in shipped()) < 60 * MEGABYTE


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_prior_is_small_and_described(name: str):
    weights, contract = load(name)
    # A coarse part is a network of its own.
    coarse = [one for name, one in tensors_of(weights).items() if name.startswith(COARSE)]
    of_coarse = sum(one.numel() * one.element_size() for one in coarse)
    assert of_coarse < 12 * MEGABYTE
    assert len(weights) - of_coarse < 12 * MEGABYTE
    assert contract.name == name
    assert contract.licence
    assert all(any(one in line for one in PERMISSIVE) for line in contract.training_data)
    assert not any("NC" in line for line in contract.training_data)
    assert contract.images_seen > 1000


@pytest.mark.parametrize("name", shipped())
def test_the_score_explains_the_noise_at_every_level(name: str):
    """The mean of (sigma s + n)^2 per pixel is below 1 everywhere and below 0.1 at large noise (pitfall 9)."""
    model, contract = load_prior(name, "cpu", "float32")
    x0 = images(contract)[[1, 6]]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    left = []
    with torch.no_grad():
        for sigma in torch.logspace(np.log10(contract.sigma_min), np.log10(contract.sigma_max), 8):
            s = score(model, x0 + sigma * noise, sigma.expand(len(x0)))
            left.append(float((sigma * s + noise).square().mean()))
    assert max(left) < 1
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.1


@pytest.mark.parametrize("name", shipped())
def test_one_sample_beats_the_naive_reconstruction_by_four_decibels(name: str):
    """The demo's measurements of two patients, simulated on a finer grid, as in the demo."""
    model, contract = load_prior(name, "cpu", "float32")
    fine, truth = (images(contract, fine_factor=factor)[[1, 6]] for factor in (2, 1))
    measurement = MEASUREMENTS[contract.image.modality]
    y = simulate(measurement, fine, contract.image, Noise(0, ["a", "b"])).y
    operator = measurement.operator(contract.image.size)
    with torch.no_grad():
        x = reconstruct(FEW_CALLS, InverseProblem(operator, y), model, noise=Noise(0, ["a", "b"])).x
    gain = psnr(x.clamp(0, 1), truth, data_range=1.0) - psnr(operator.direct(y).clamp(0, 1), truth, data_range=1.0)
    assert float(gain.mean()) > 4


@pytest.mark.parametrize("name", shipped())
def test_bfloat16_costs_less_than_a_twentieth_of_a_decibel(name: str):
    """Pitfall 23; one slice and few calls, since bfloat16 is slow on CPUs without instructions for it."""
    contract = load(name)[1]
    truth = images(contract)[1:2]
    operator = MEASUREMENTS[contract.image.modality].operator(contract.image.size)
    problem = InverseProblem(operator, operator.forward(truth))
    method = DDS(grid=SigmaGrid(n_levels=10, sigma_max=1.0, sigma_min=0.01))
    found = []
    with torch.no_grad():
        for precision in ("float32", "bfloat16"):
            x = reconstruct(method, problem, load_prior(name, "cpu", precision)[0], noise=Noise(0, ["a"])).x
            found.append(float(psnr(x.clamp(0, 1), truth, data_range=1.0)))
    assert found[0] > 20
    assert found[1] != found[0]
    assert abs(found[1] - found[0]) < 0.05


@pytest.mark.parametrize("name", shipped())
def test_bfloat16_changes_a_denoised_image_little(name: str):
    exact, contract = load_prior(name, "cpu", "float32")
    rounded, _ = load_prior(name, "cpu", "bfloat16")
    x = images(contract)[:2]
    x = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    sigma = torch.full((2,), 0.3)
    with torch.no_grad():
        difference = (exact(x, sigma) - rounded(x, sigma)).square().mean().sqrt()
    # A fortieth of the denoising error at this noise level, which is about 0.03.
    assert float(difference) < 0.00075 * 2


def heads_and_pieces() -> Tensor:
    """Two whole heads, and from the middle of each a small piece that TV finds: errors of 0.1 and of 4e-4."""
    heads = images(load("mri-128")[1])[[1, 6]]
    axis = torch.linspace(-1, 1, heads.shape[-1])
    return torch.cat([heads, heads * (torch.hypot(axis[:, None] - 0.1, axis) < 0.22)])


def test_the_error_of_a_tv_image_is_guessed_within_a_factor_of_two_and_a_half():
    """On people who had no part in the guess's constants, over errors that differ two hundredfold."""
    truth, operator = heads_and_pieces(), MEASUREMENTS["mri"].operator(128)
    problem = InverseProblem(operator, operator.forward(truth))
    tv = TotalVariation(weight=4e-5, n_iters=200)
    steps = [step.x for step in run(tv, problem, noise=Noise(0, ["a", "b", "c", "d"]))]
    error = (steps[-1] - truth).square().mean((1, 2, 3)).sqrt()
    ratio = estimated_error(steps[99], steps[-1]).flatten() / error
    assert float(error.max() / error.min()) > 100
    assert ((ratio > 0.4) & (ratio < 2.5)).all()


def test_what_tv_has_found_is_lost_under_the_grids_first_level_and_kept_under_its_own():
    model = load_prior("mri-128", "cpu", "float32")[0]
    truth, operator = heads_and_pieces()[2:], MEASUREMENTS["mri"].operator(128)
    problem = InverseProblem(operator, operator.forward(truth))
    grid = SigmaGrid(n_levels=10, sigma_max=0.3, sigma_min=0.005)
    starts = TVStart(weight=4e-5, n_iters=200), GradedTVStart(weight=4e-5, n_iters=200, factor=5.0)
    found = []
    with torch.no_grad():
        for start in starts:
            method = DDS(grid=grid, start=start)
            x = reconstruct(method, problem, model, noise=Noise(0, ["a", "b"])).x
            found.append(psnr(x.clamp(0, 1), truth, data_range=1.0))
    assert (found[1] > found[0] + 3).all()
