"""Problems refuse data of another operator; methods run, count their calls and say what they miss."""

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.denoiser import Denoiser, GaussianDenoiser
from scoreinv.measurement import GaussianNoise, simulate
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, Method, Needs, Step, reconstruct, run
from scoreinv.samplers import Bregman


class Binned(LinearOperator):
    """Means of 2 x 2 pixels."""

    image_shape = (1, 4, 4)
    data_shape = (1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2)


class Landweber(Method):
    """x <- x + 4 A^H (y - A x): the step is one over the squared norm."""

    needs: ClassVar[Needs] = "nothing"
    n_iters: int = 1

    @property
    def n_calls(self) -> int:
        return 0

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        x = torch.zeros(len(problem.y), *problem.operator.image_shape)
        for index in range(self.n_iters):
            x = x + 4 * problem.operator.adjoint(problem.residual(x))
            yield Step(index, 0.0, x)


class PlugAndPlay(Landweber):
    """Landweber's step, then the denoiser, twice."""

    needs: ClassVar[Needs] = "prior"

    @property
    def n_calls(self) -> int:
        return 2 * self.n_iters

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        sigma = torch.tensor(0.1)
        for step in super().steps(problem, denoiser, noise):
            yield step._replace(x=denoiser(denoiser(step.x, sigma), sigma))


def problem(n_images: int = 2) -> InverseProblem:
    """Binned data of random images."""
    return InverseProblem(Binned(), torch.rand(n_images, 1, 2, 2, generator=torch.Generator().manual_seed(0)))


def prior() -> GaussianDenoiser:
    """White pixels around 0.5."""
    return GaussianDenoiser(torch.full((4, 4), 0.5), torch.eye(16))


def test_data_of_another_operator_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data have shape \(1, 2, 3\) but the operator measures \(1, 2, 2\)"):
        InverseProblem(Binned(), torch.zeros(5, 1, 2, 3))


def test_every_image_has_a_noise_level() -> None:
    y = torch.zeros(3, 1, 2, 2)
    assert InverseProblem(Binned(), y).noise_std.tolist() == [0, 0, 0]
    assert InverseProblem(Binned(), y, 0.5).noise_std.tolist() == [0.5] * 3
    levels = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
    assert InverseProblem(Binned(), y, levels).noise_std.tolist() == [0.5, 0, 2]
    assert InverseProblem(Binned(), y, levels).noise_std.dtype == torch.float32


@pytest.mark.parametrize(
    ("noise_std", "message"),
    [
        (
            torch.ones(2),
            r"noise_std has shape \(2,\) for 3 images with data \(1, 2, 2\): give one number",
        ),
        (torch.ones(3, 1), r"noise_std has shape \(3, 1\)"),
        (-0.1, "must be finite and at least 0"),
        (float("nan"), r"must be finite and at least 0, got \[nan\]"),
        (torch.tensor([0.0, float("inf"), 1.0]), "must be finite"),
    ],
    ids=str,
)
def test_noise_levels_that_do_not_fit_are_refused(noise_std: Tensor | float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InverseProblem(Binned(), torch.zeros(3, 1, 2, 2), noise_std)


def test_a_part_takes_data_and_noise_along() -> None:
    whole = problem(3).with_noise_std(torch.tensor([1.0, 2.0, 3.0]))
    part = whole.part(torch.tensor([2, 0, 2]))
    assert torch.equal(part.y, whole.y[[2, 0, 2]])
    assert part.noise_std.tolist() == [3, 1, 3]


def test_the_residual_of_an_image_that_explains_the_data_is_zero() -> None:
    image = torch.rand(2, 1, 4, 4)
    explained = InverseProblem(Binned(), Binned().forward(image))
    assert torch.equal(explained.residual(image), torch.zeros(2, 1, 2, 2))
    assert torch.equal(explained.residual(torch.zeros_like(image)), explained.y)


def test_a_method_without_a_denoiser_solves_the_problem() -> None:
    step = reconstruct(Landweber(), problem(), noise=Noise(0, ["a", "b"]))
    torch.testing.assert_close(problem().residual(step.x), torch.zeros(2, 1, 2, 2))
    assert step.nfe == 0


def test_denoiser_calls_are_counted_step_by_step() -> None:
    method = PlugAndPlay(n_iters=3)
    steps = list(run(method, problem(), prior(), noise=Noise(0, ["a", "b"])))
    assert [step.nfe for step in steps] == [2, 4, 6]
    assert steps[-1].nfe == method.n_calls


def test_counting_starts_anew_with_every_run() -> None:
    noise = Noise(0, ["a", "b"])
    first, second = (reconstruct(PlugAndPlay(), problem(), prior(), noise=noise) for _ in range(2))
    assert first.nfe == second.nfe == 2
    assert torch.equal(first.x, second.x)


def test_reconstruct_returns_the_last_step() -> None:
    noise = Noise(0, ["a", "b"])
    *_, last = run(PlugAndPlay(n_iters=4), problem(), prior(), noise=noise)
    result = reconstruct(PlugAndPlay(n_iters=4), problem(), prior(), noise=noise)
    assert result.index == last.index == 3
    assert torch.equal(result.x, last.x)


def test_a_loop_can_be_left_early() -> None:
    steps = run(PlugAndPlay(n_iters=1000), problem(), prior(), noise=Noise(0, ["a", "b"]))
    assert next(steps).nfe == 2


def test_a_missing_denoiser_is_named() -> None:
    with pytest.raises(ValueError, match="PlugAndPlay needs a prior: pass one"):
        reconstruct(PlugAndPlay(), problem(), noise=Noise(0, ["a", "b"]))


def test_noise_for_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="noise for 1 images was given with data of 2"):
        reconstruct(Landweber(), problem(), noise=Noise(0, ["a"]))


def test_a_method_without_steps_is_named() -> None:
    with pytest.raises(ValueError, match=r"Landweber\(.*n_iters=0\) yielded no step"):
        reconstruct(Landweber(n_iters=0), problem(), noise=Noise(0, ["a", "b"]))


def test_a_method_that_was_declared_to_need_no_denoiser_cannot_call_one() -> None:
    class Undeclared(PlugAndPlay):
        needs: ClassVar[Needs] = "nothing"

    with pytest.raises(TypeError, match="declared to need no trained model"):
        reconstruct(Undeclared(), problem(), noise=Noise(0, ["a", "b"]))


def test_data_of_the_images_own_grid_are_exact_and_stay_so() -> None:
    contract = ImageContract(modality="mri", size=16, pixel_mm=8.0, low=0, high=1)
    spec, noise = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.1)), Noise(0, ["a"])
    exact, other = (
        InverseProblem.of(spec, simulate(spec, torch.rand(1, 1, n, n), contract, noise), contract) for n in (16, 32)
    )
    assert exact.is_exact
    assert not other.is_exact
    for made in (exact.part(torch.tensor([0])), exact.with_noise_std(0.2), exact.with_floor(0.3)):
        assert made.is_exact
    per_ray = exact.with_noise_std(torch.rand(exact.y.shape) + 0.5)
    assert per_ray.whitened().is_exact
    sampler = Bregman(data_floor=0.5)
    floors = [float(sampler.prepared(one).noise_std / one.operator.norm()) for one in (exact, other)]
    assert floors == pytest.approx([0.1, 0.5])


def test_data_that_are_not_linear_or_of_another_projector_are_not_exact() -> None:
    contract, noise = ImageContract(modality="ct", size=16, pixel_mm=20.0, low=-1000, high=1000), Noise(0, ["a"])
    images = torch.full((1, 1, 16, 16), 0.4)
    problems = {
        spec.kind: InverseProblem.of(spec, simulate(spec, images, contract, noise), contract)
        for spec in (SparseViewCT(n_views=9), MetalCT(n_views=9, metal="none"))
    }
    assert {kind: one.is_exact for kind, one in problems.items()} == {"sparse_view_ct": True, "metal_ct": False}
    pytest.importorskip("astra")
    spec = SparseViewCT(n_views=9)
    measured = simulate(spec, images, contract, noise)
    assert not InverseProblem.of(spec, measured, contract, projector="astra").is_exact
