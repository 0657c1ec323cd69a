"""LI and NMAR: each does what it is there for, whatever the batch, and says where it does not belong."""

import pytest
import torch

from scoreinv.baselines import NMAR, Direct, LinearInterpolation
from scoreinv.baselines.nmar import completed
from scoreinv.errors import UserError
from scoreinv.measurement import Noiseless
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.operators.trace import interpolated
from scoreinv.problem import InverseProblem, Method, reconstruct
from tests.metal import IMAGE, NAMES, SIZE, bodies, data

SPEC = MetalCT(n_views=90, metal="hip_head")
METHODS = {"li": LinearInterpolation(), "nmar": NMAR()}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def solve(method: Method, problem: InverseProblem, names: list[str]) -> torch.Tensor:
    return reconstruct(method, problem, noise=Noise(0, names)).x


def errors(x: torch.Tensor, problem: InverseProblem) -> torch.Tensor:
    """Mean absolute error outside the metal in HU, of each slice."""
    scored = SPEC.scored(data(SPEC).context)
    return ((x - bodies()).abs() * scored).sum((1, 2, 3)) / scored.sum((1, 2, 3)) * 2000


def problem() -> InverseProblem:
    return InverseProblem.of(SPEC, data(SPEC), IMAGE)


def test_each_is_better_than_the_one_before_it() -> None:
    case = problem()
    direct, li, nmar = (errors(solve(method, case, NAMES), case) for method in (Direct(), *METHODS.values()))
    assert bool((li < 0.7 * direct).all())
    assert bool((nmar < li).all())


@each_method
def test_rays_that_are_seen_are_kept(method: Method) -> None:
    """Without metal both are filtered backprojection."""
    spec = MetalCT(n_views=90, metal="none", noise=Noiseless())
    case = InverseProblem.of(spec, data(spec), IMAGE)
    torch.testing.assert_close(solve(method, case, NAMES), solve(Direct(), case, NAMES))


def test_nmar_restores_what_a_multiple_of_the_expected_rays_is() -> None:
    whole = SparseViewCT(n_views=30).operator(SIZE)
    expected = whole.forward(bodies()).clamp_min(0.1)
    y, seen = 1.7 * expected, torch.ones_like(expected)
    seen[..., 30:40], seen[..., 40] = 0, 0.3
    torch.testing.assert_close(completed(seen * y, seen, expected), y)
    assert float((interpolated(seen * y, seen) - y).abs().max()) > 1


def test_the_prior_image_is_of_air_tissue_and_bone() -> None:
    image, tissue = NMAR().prior_image(bodies())
    torch.testing.assert_close(tissue, torch.tensor([0.52] * 3), atol=0.02, rtol=0)
    for one, level in zip(image, tissue, strict=True):
        others = one[(one != 0) & (one != level)]
        assert bool((one == level).sum() > 0.3 * SIZE**2)
        assert 0 < len(others) < 0.1 * SIZE**2
        assert float(others.median()) >= 1.25 * float(level)


@each_method
def test_a_batch_of_one_equals_a_batch_of_three(method: Method) -> None:
    case = problem()
    together = solve(method, case, NAMES)
    for place in range(3):
        alone = solve(method, case.part(torch.tensor([place])), NAMES[place : place + 1])
        torch.testing.assert_close(alone[0], together[place], rtol=1e-4, atol=1e-4)


@each_method
def test_data_of_which_nothing_is_hidden_are_refused(method: Method) -> None:
    operator = SparseViewCT(n_views=9).operator(SIZE)
    case = InverseProblem(operator, operator.forward(bodies()))
    with pytest.raises(UserError, match="measurement.kind=metal_ct"):
        solve(method, case, NAMES)


@each_method
def test_options_survive_json_and_no_network_is_called(method: Method) -> None:
    assert type(method).model_validate_json(method.model_dump_json()) == method
    assert reconstruct(method, problem(), noise=Noise(0, NAMES)).nfe == method.n_calls == 0
