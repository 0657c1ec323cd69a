"""What the comparison of metal counts, and what it shows."""

import pytest
import torch

from benchmarks.metal import Case, around, errors_of, trace_shares
from scoreinv.measurement import simulate
from scoreinv.noise import Noise
from scoreinv.operators.metal_ct import MetalCT
from tests.metal import IMAGE, SIZE, bodies


def case() -> Case:
    spec = MetalCT(n_views=30, metal="hip_head")
    images, noise = bodies()[:1], Noise(0, ["a"])
    (inserts,) = spec.inserts(images, IMAGE, noise)
    measured = simulate(spec, images, IMAGE, noise)
    return Case("a", "hip_head", images, inserts, spec, measured, measured)


def test_errors_are_of_the_body_outside_the_metal() -> None:
    one = case()
    body, metal = one.truth > 0.05, one.measured.context["metal"]
    beside = one.truth + torch.where(metal | ~body, 5.0, 0.0)
    assert errors_of(beside, one, IMAGE) == (0, 0)
    assert errors_of(one.truth + 0.01, one, IMAGE) == pytest.approx((20, 20), rel=1e-3)


def test_the_trace_is_covered_and_a_part_of_all_rays() -> None:
    hidden, less, all_hidden = trace_shares(case(), IMAGE)
    assert 99 < hidden <= less <= 100
    assert 1 < all_hidden < 50


@pytest.mark.parametrize("place", [0, 20, SIZE - 1])
def test_what_is_shown_is_a_square_that_holds_the_metal(place: int) -> None:
    metal = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    metal[place, SIZE - 1 - place] = True
    assert metal[around(metal)].shape == (SIZE // 2, SIZE // 2)
    assert metal[around(metal)].any()
