"""One option is changed, and what it is worth is told."""

import pytest

from benchmarks.options import changed, table
from benchmarks.settings import Setting
from scoreinv.baselines import TotalVariation
from scoreinv.errors import UserError
from scoreinv.operators.ct import SparseViewCT
from scoreinv.samplers import DPIR, Bregman
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
