"""One option is changed, and what it is worth is told."""

import pytest
from torch import Tensor

from benchmarks.options import changed, table
from benchmarks.settings import Setting
from scoreinv.baselines import TotalVariation
from scoreinv.errors import UserError
from scoreinv.operators.ct import SparseViewCT
from scoreinv.samplers import DAPS, DPIR, Bregman
from scoreinv.samplers.grid import SigmaGrid
from tests.benchmarks.test_lesions import no_model, people


def test_options_change_together_and_none_else() -> None:
    method = Bregman()
    other = changed(method, "memory=0.3 grid.sigma_max=0.5 symmetry=flip")
    assert isinstance(other, Bregman)
    assert (other.memory, other.grid.sigma_max, other.symmetry) == (0.3, 0.5, "flip")
    assert other.model_copy(update={"memory": method.memory, "grid": method.grid, "symmetry": "none"}) == method
    with pytest.raises(UserError, match=r"has no option grid.sigma: it has n_levels"):
        changed(DPIR(), "grid.sigma=1")
    with pytest.raises(UserError, match=r"has no option gird.sigma_max: it has kind"):
        changed(DPIR(), "gird.sigma_max=1")


def test_a_table_has_the_method_as_it_is_and_each_change() -> None:
    settings = [Setting("few", SparseViewCT(n_views=10)), Setting("more", SparseViewCT(n_views=20))]
    lines = list(table(TotalVariation(n_iters=60), ["weight=1e-5"], settings, people(), no_model))  # type: ignore[arg-type]
    assert lines[0] == "| tv | few | more |"
    rows = {cells[1].strip(): [float(one) for one in cells[2:-1]] for cells in (line.split("|") for line in lines[2:])}
    assert list(rows) == ["as it is", "weight=1e-5"]
    assert all(len(row) == 2 and row[1] > row[0] > 15 for row in rows.values())
    assert rows["as it is"] != rows["weight=1e-5"]


def test_of_several_samples_it_tells_how_often_their_intervals_hold() -> None:
    """Calm samples of a prior of grey noise lie nearer together, and their intervals hold less often."""

    def grey(x: Tensor, sigma: Tensor) -> Tensor:
        return 0.2 + (x - 0.2) * 0.15**2 / (0.15**2 + sigma.view(-1, 1, 1, 1) ** 2)

    fresh = DAPS(grid=SigmaGrid(n_levels=20, sigma_max=1.0, sigma_min=0.01))
    settings = [Setting("few", SparseViewCT(n_views=5), is_fine=False)]
    lines = list(table(fresh, ["renoise.temperature=0.1"], settings, people(), grey, n_samples=4))  # type: ignore[arg-type]
    (_, held, ratio), (_, less_held, less) = (
        [float(one.strip(" %")) for one in line.split("|")[2].split(";")] for line in lines[2:]
    )
    assert less < 0.5 * ratio
    assert less_held < held - 10
    assert 0.3 < ratio < 3
