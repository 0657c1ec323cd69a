"""Bregman against dense solves and exact posteriors: what it remembers, where it comes to rest, and how fast."""

import pytest
import torch
from torch import Tensor

from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct, run
from scoreinv.samplers import DPIR, Bregman
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.samplers.start import DirectStart, GradedTVStart
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, real_matrix, stationary_prior, varying_prior

MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
SHORT = SigmaGrid(n_levels=4, sigma_max=0.5, sigma_min=0.1)
LONG = SigmaGrid(n_levels=60, sigma_max=1.0, sigma_min=0.01)
each_modality = pytest.mark.parametrize("measurement", [MRI, CT], ids=["mri", "ct"])


def problem(measurement: CartesianMRI | SparseViewCT) -> InverseProblem:
    operator = measurement.operator(SIZE)
    truth = varying_prior().sample(BatchNoise(1, seed=3).normal(operator.image_shape).double()).float()
    return InverseProblem(operator, operator.forward(truth), 0.05)


@each_modality
def test_without_memory_relaxation_and_noise_it_is_dpir(measurement):
    plain = Bregman(grid=SHORT, memory=0.0, relaxation=0.0, first_noise=0.0, data_floor=1e-3, strength=2.0, n_cg=10)
    ours, dpir = (
        reconstruct(method, problem(measurement), varying_prior(), noise=Noise(0, ["a"])).x
        for method in (plain, DPIR(grid=SHORT))
    )
    torch.testing.assert_close(ours, dpir)


@each_modality
@pytest.mark.parametrize("start", [DirectStart(), GradedTVStart(weight=1e-3, factor=3.0)], ids=["far", "near"])
def test_its_steps_are_those_of_the_formulas(measurement, start):
    """Done by hand with dense solves: the first and the last level remember nothing and go no further.

    From a start that is near, levels are lower.
    """
    case, prior = problem(measurement), varying_prior()
    method = Bregman(grid=SHORT, start=start, memory=0.6, relaxation=0.7, first_noise=0.5, strength=2.0, n_cg=100)
    matrix, y = real_matrix(case.operator), real_data(case)
    found = start.first(case, SHORT.levels()[0], BatchNoise(1))
    share = float(found.sigma / 0.5)
    assert (share < 0.9) == (start.kind == "graded_tv")
    x = (found.x + 0.5 * 0.5 * share * BatchNoise(1).normal(case.operator.image_shape)).double()
    missed = torch.zeros_like(y)
    for index, sigma in enumerate(share * SHORT.levels()[:-1].double()):
        z = prior(x, sigma[None])
        anchor, data = z, y
        if index in (1, 2):
            missed = 0.6 * (missed + y - matrix @ z.flatten())
            anchor, data = z + 0.7 * (z - x), y + missed
        weight = (0.05 / (2.0 * sigma)) ** 2
        right = matrix.T @ data + weight * anchor.flatten()
        x = torch.linalg.solve(matrix.T @ matrix + weight * torch.eye(SIZE**2), right).view(x.shape)
    result = reconstruct(method, case, prior, noise=BatchNoise(1)).x
    torch.testing.assert_close(result, x.float(), rtol=1e-3, atol=1e-3)


@each_modality
def test_exact_data_are_trusted_ten_times_as_much_and_end_at_half_the_last_level(measurement):
    method = Bregman(grid=SHORT, data_floor=1e-2)
    seen: dict[bool, list[float]] = {}
    for is_exact in (False, True):
        case = problem(measurement)
        case = InverseProblem(case.operator, case.y, is_exact=is_exact)
        assert method.floor_of(case) == pytest.approx(1e-3 if is_exact else 1e-2)
        prior = varying_prior()
        sigmas = seen.setdefault(is_exact, [])

        def denoiser(x: Tensor, sigma: Tensor, prior=prior, sigmas=sigmas) -> Tensor:
            sigmas.append(float(sigma))
            return prior(x, sigma)

        reconstruct(method, case, denoiser, noise=BatchNoise(1))
    assert seen[False] == pytest.approx(SHORT.levels()[:-1].tolist())
    assert (seen[True][0], seen[True][-1]) == pytest.approx((0.5, 0.05))


def real_data(case: InverseProblem) -> Tensor:
    flat = case.y[0].flatten()
    return (torch.cat([flat.real, flat.imag]) if flat.is_complex() else flat).double()


def test_what_the_prior_takes_from_the_data_comes_back_amplified():
    """At rest A x - A z = (y - A z) / (1 - memory)."""
    case, prior, level = problem(MRI).with_noise_std(0.0), stationary_prior(), torch.tensor([0.2])
    resting = SigmaGrid(n_levels=80, sigma_max=0.2, sigma_min=0.1999)
    method = Bregman(grid=resting, memory=0.7, relaxation=0.0, data_floor=1e-6, n_cg=20)
    *_, before_last, _ = (step.x for step in run(method, case, prior, noise=Noise(0, ["a"])))
    missed = case.residual(prior(before_last, level))
    kept = case.operator.forward(before_last - prior(before_last, level))
    torch.testing.assert_close(kept, missed / 0.3, rtol=0.01, atol=0.01)


@each_modality
def test_what_the_floor_explains_is_not_remembered(measurement):
    """A floor that no residual exceeds leaves no memory; between, the share that is more than the floor's is kept."""
    case, prior = problem(measurement), varying_prior()

    def image(memory: float, floor: float) -> Tensor:
        method = Bregman(grid=SHORT, memory=memory, relaxation=0.0, data_floor=floor)
        return reconstruct(method, case, prior, noise=Noise(0, ["a"])).x

    assert not torch.equal(image(0.6, 1e-3), image(0.0, 1e-3))
    assert torch.equal(image(0.6, 0.9), image(0.0, 0.9))


def test_a_residual_twice_the_floor_s_is_remembered_by_three_quarters():
    case = problem(CT)
    residual = torch.full_like(case.y, 0.02) * case.operator.norm()
    kept = Bregman(data_floor=0.01)._of_the_prior(case, residual.where(case.y != 0, 0.0))
    assert float(kept) == pytest.approx(0.75, abs=1e-5)


def test_a_longer_step_is_nearer_after_as_many_calls():
    """Where nothing is measured, at one level; the resting point is the same."""
    errors = []
    case, prior = problem(CT), varying_prior()
    for n_levels, relaxation in ((8, 0.0), (8, 0.8), (300, 0.0)):
        grid = SigmaGrid(n_levels=n_levels, sigma_max=0.03, sigma_min=0.0299)
        method = Bregman(grid=grid, memory=0.0, relaxation=relaxation, first_noise=0.0, n_cg=40)
        errors.append(reconstruct(method, case, prior, noise=Noise(0, ["a"])).x)
    slow, fast = (float((x - errors[-1]).norm()) for x in errors[:2])
    assert fast < 0.75 * slow


@each_modality
@pytest.mark.parametrize(("memory", "bound"), [(0.0, 0.25), (0.5, 0.25), (0.8, 0.45)])
def test_its_image_is_off_the_posteriors_mean_by_less_than_half_a_deviation(measurement, memory: float, bound: float):
    """In posterior deviations; the more memory, the more of noise of 0.02 comes back with the data."""
    method = Bregman(grid=LONG, memory=memory, n_cg=20)
    errors = compare(method, measurement.operator(SIZE), varying_prior(), noise_std=0.02, n=100)
    assert errors.mean_measured < bound
    assert errors.mean_unmeasured < 0.2
    assert errors.variance_unmeasured < 1e-2


def test_noiseless_data_are_met_to_the_noise_floor():
    operator, prior = MRI.operator(16), stationary_prior(16)
    y = operator.forward(prior.sample(BatchNoise(2).normal((1, 16, 16)).double()).float())
    x = reconstruct(Bregman(data_floor=1e-3), InverseProblem(operator, y), prior, noise=BatchNoise(2)).x
    assert float((operator.forward(x) - y).abs().max()) < 3e-3
