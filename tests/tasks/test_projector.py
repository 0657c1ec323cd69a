"""What computes line integrals is a matter of execution: it is in no address, and data never depend on it."""

from pathlib import Path

import pytest

from scoreinv.baselines import Direct
from scoreinv.errors import MissingPackage
from scoreinv.operators import projectors
from scoreinv.operators.ct import CTOperator, LimitedAngleCT, SparseViewCT
from scoreinv.operators.linear import ProjectorName
from scoreinv.operators.mri import CartesianMRI
from tasks.checks import require_fit
from tasks.recipes import MeasureRecipe, Reconstruction
from tasks.running.shards import Execution
from tasks.workers.reconstruct import reconstruct_shard
from tests.tasks import tiny
from tests.tasks.test_measure import COUNTED, CT, measured


def test_old_recipes_are_read_and_lead_to_the_same_data() -> None:
    for kind in (SparseViewCT, LimitedAngleCT):
        assert kind.model_validate({"backend": "astra"}) == kind()
    measurement = {"kind": "sparse_view_ct", "n_views": 9}
    old, new = (
        MeasureRecipe.model_validate({"dataset": "datasets/a", "simulation": {"measurement": one}})
        for one in (measurement | {"backend": "astra"}, measurement)
    )
    assert (old, old.digest()) == (new, new.digest())


def test_reconstructions_use_it_and_data_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ProjectorName] = []

    def with_projector(self: CTOperator, name: ProjectorName) -> CTOperator:
        asked.append(name)
        return self

    monkeypatch.setattr(CTOperator, "with_projector", with_projector)
    store = measured(tmp_path, ["p1-3"], shard_size=1, spec=COUNTED)
    # The check beforehand asks too.
    assert set(asked) <= {"matrix"}
    asked.clear()
    job, _ = tiny.reconstruction(store, tmp_path / "r", Reconstruction(method=Direct()))
    reconstruct_shard(job.model_copy(update={"projector": "astra"}), 0, print)
    assert asked == ["astra"]


def test_a_missing_package_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projectors, "find_spec", lambda name: None if name == "torch_radon" else name)
    with pytest.raises(MissingPackage, match="projector='torch_radon' needs the package"):
        require_fit(COUNTED, CT, "torch_radon")
    require_fit(COUNTED, CT, "matrix")
    require_fit(CartesianMRI(), tiny.MRI.model_copy(update={"size": 64}), "torch_radon")


def test_the_reference_is_the_default() -> None:
    assert Execution().projector == "matrix"
