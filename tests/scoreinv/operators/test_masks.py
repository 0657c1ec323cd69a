from typing import Protocol

import pytest
import torch
from torch import Tensor

from scoreinv.operators import masks
from scoreinv.operators.mri import CartesianMRI


class Draw(Protocol):
    def __call__(self, size: int, n_keep: int, *, n_acs: int, seed: int) -> Tensor: ...


@pytest.mark.parametrize(
    ("n_keep", "count", "count_with_mirror"), [(10, 10, 19), (20, 19, 33), (30, 31, 55), (60, 60, 69)]
)
def test_paper_mask_has_the_released_counts(n_keep: int, count: int, count_with_mirror: int) -> None:
    mask = masks.paper_mask(240, n_keep)
    assert int(mask.sum()) == count
    assert int((mask | mask.flip(0).roll(1)).sum()) == count_with_mirror
    assert bool(mask[120])


def test_paper_mask_is_what_the_spec_measures_of_columns() -> None:
    spec = CartesianMRI(acceleration=8)
    assert torch.equal(spec.mask(240), masks.paper_mask(240, 30))
    mask = spec.operator(240).mask
    assert mask.shape == (1, 240, 240)
    assert bool((mask == mask[:, :1]).all())
    assert int(mask[0, 0].sum()) == 31


def test_paper_mask_refuses_a_centre_that_is_everything() -> None:
    with pytest.raises(ValueError, match="central columns"):
        masks.paper_mask(1000, 250)


@pytest.mark.parametrize("size", [16, 64, 65, 256, 320])
@pytest.mark.parametrize("acceleration", [2, 4, 8])
def test_every_pattern_holds_the_centre_and_about_the_asked_columns(size: int, acceleration: int) -> None:
    for pattern in ("paper", "equispaced", "random", "variable_density"):
        spec = CartesianMRI.model_validate({"acceleration": acceleration, "pattern": pattern})
        mask = spec.mask(size)
        n_keep = masks.n_columns(size, acceleration)
        assert bool(mask[size // 2]), pattern
        assert abs(int(mask.sum()) - n_keep) <= (0 if pattern != "paper" else max(2, 0.25 * n_keep)), pattern


def test_equispaced_mask_has_even_gaps() -> None:
    mask = masks.equispaced_mask(64, 16, n_acs=4)
    columns = torch.nonzero(mask).flatten()
    gaps = columns.diff()
    assert int(mask.sum()) == 16
    assert mask[30:34].all()
    assert set(gaps.tolist()) - {1} <= {3, 4, 5, 6}


@pytest.mark.parametrize("size", [32, 33, 256])
@pytest.mark.parametrize("draw", [masks.random_mask, masks.variable_density_mask])
def test_drawn_masks_belong_to_their_seed(size: int, draw: Draw) -> None:
    state = torch.get_rng_state()
    mask = draw(size, size // 4, n_acs=3, seed=1)
    assert int(mask.sum()) == size // 4
    assert mask[size // 2 - 1 : size // 2 + 2].all()
    assert torch.equal(mask, draw(size, size // 4, n_acs=3, seed=1))
    assert not torch.equal(mask, draw(size, size // 4, n_acs=3, seed=2))
    assert torch.equal(state, torch.get_rng_state())


def test_variable_density_prefers_the_centre() -> None:
    distance = (torch.arange(256) - 128).abs().float()

    def mean_distance(draw: Draw) -> float:
        return sum(float(distance[draw(256, 64, n_acs=8, seed=seed)].mean()) for seed in range(20)) / 20

    assert mean_distance(masks.variable_density_mask) < 0.75 * mean_distance(masks.random_mask)


def test_too_many_central_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="n_acs=9"):
        CartesianMRI(acceleration=8, pattern="random", n_acs=9).mask(64)
