"""A source that grew costs what is new: every stage makes that alone, and all is as in a run from nothing."""

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from flows.ingest import ingest_flow
from flows.pipeline import pipeline_flow
from scoreinv.baselines import Direct
from scoreinv.contract import ImageContract
from scoreinv.operators.mri import CartesianMRI
from storage.datasets import DatasetStore
from storage.joined import JoinedStore, open_store
from storage.scores import read_scores
from storage.sources import NiftiSource, limits
from storage.uri import list_names
from storage.verify import STAGES, discard_damaged, finish_if_all_is_there, problems_of
from tasks.recipes import IngestRecipe, PipelineRecipe, Reconstruction, Simulation, Study
from tasks.running.cluster import Inline
from tasks.running.shards import Execution

pytestmark = pytest.mark.usefixtures("prefect_server")

STORES = ("datasets", "measurements", "reconstructions", "scores")


def add_head(scans: Path, name: str, *, seed: int = 0, n_slices: int = 5) -> None:
    """A volume of noise in emptiness, written long ago: what has just been written may still change."""
    scans.mkdir(exist_ok=True)
    values = np.zeros((20, 20, n_slices))
    values[4:16, 4:16] = 500 + 100 * np.random.default_rng([seed, *name.encode()]).standard_normal((12, 12, n_slices))
    path = scans / f"{name}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), np.diag([4.0, 4.0, 3.0, 1.0])), path)


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.sources.catalogue.SETTLED_NS", 0)


def recipe(scans: Path, **options: Any) -> PipelineRecipe:
    ingest = IngestRecipe(
        source=NiftiSource(path=str(scans), **options),
        image=ImageContract(modality="mri", size=16, pixel_mm=5.0, low=0, high=1),
        shard_size=4,
    )
    study = Study(
        name="heads",
        ingest=ingest,
        simulation=Simulation(measurement=CartesianMRI(acceleration=2)),
        reconstructions=(Reconstruction(method=Direct()),),
    )
    return PipelineRecipe(title="Heads", studies=(study,), n_pictures=2)


def run(workspace: Path, scans: Path, **options: Any) -> None:
    pipeline_flow(recipe(scans, **options), Execution(workspace=str(workspace), cluster=Inline()))


def last(workspace: Path, stage: str) -> str:
    """The URI of the result of a stage that was finished last."""
    names = [name for name in list_names(str(workspace / stage)) if (workspace / stage / name / "_SUCCESS").exists()]
    return str(max((workspace / stage / name for name in names), key=lambda path: (path / "_SUCCESS").stat().st_mtime))


def images_of(workspace: Path) -> dict[str, np.ndarray]:
    """Every reconstruction by the name of its slice."""
    data = DatasetStore.open(last(workspace, "datasets"))
    images = open_store(last(workspace, "reconstructions"))
    return {one.slice_id: images.read("sample", i, i + 1)[0] for i, one in enumerate(data.records)}


def n_markers(workspace: Path) -> dict[str, int]:
    return {stage: len(list((workspace / stage).glob("*/done/*.json"))) for stage in STORES}


def require_equal(workspace: Path, scans: Path, fresh: Path) -> None:
    """All that was found is as in an empty workspace, and every result is whole."""
    run(fresh, scans)
    mine, theirs = images_of(workspace), images_of(fresh)
    assert mine.keys() == theirs.keys()
    for name, image in theirs.items():
        np.testing.assert_array_equal(mine[name], image)
    rows, wanted = (
        {row["slice_id"]: (row["psnr"], row["psnr_volume"]) for row in read_scores(last(place, "scores"))}
        for place in (workspace, fresh)
    )
    assert rows == wanted
    for stage in STAGES:
        for name in list_names(str(workspace / stage)):
            assert problems_of(stage, str(workspace / stage / name)) == []


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded."""
    read: list[str] = []

    def counting(reader: Any, path: Path) -> Any:
        read.append(path.name)
        return limits.volume_within_limits(reader, path)

    monkeypatch.setattr("storage.sources.nifti.volume_within_limits", counting)
    return read


def test_one_more_study_costs_that_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[str]) -> None:
    settle(monkeypatch)
    scans, workspace = tmp_path / "scans", tmp_path / "workspace"
    for name in ("ant", "cow", "dog"):
        add_head(scans, name)
    run(workspace, scans)
    before = n_markers(workspace)
    assert sorted(set(counted)) == ["ant.nii.gz", "cow.nii.gz", "dog.nii.gz"]

    counted.clear()
    run(workspace, scans)
    assert counted == []
    assert n_markers(workspace) == before

    # The files are the same, but what was made of them is not whole any more.
    data = last(workspace, "datasets")
    Path(data, "slices.json").write_text("{")
    Path(data, "images/c/1/0/0").write_bytes(b"")
    run(workspace, scans)
    assert problems_of("datasets", data) == []
    counted.clear()

    add_head(scans, "bee")
    run(workspace, scans)
    assert set(counted) == {"bee.nii.gz"}
    # Five slices in shards of four.
    assert n_markers(workspace) == {stage: n + 2 for stage, n in before.items()}
    assert isinstance(open_store(last(workspace, "scores")), JoinedStore)
    require_equal(workspace, scans, tmp_path / "fresh")

    counted.clear()
    run(workspace, scans)
    assert counted == []


def test_a_study_that_went_or_changed_costs_its_neighbours_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    settle(monkeypatch)
    scans, workspace = tmp_path / "scans", tmp_path / "workspace"
    for name in ("ant", "bee", "cow", "dog", "eel", "fox"):
        add_head(scans, name)
    run(workspace, scans)
    before = n_markers(workspace)

    counted.clear()
    (scans / "cow.nii.gz").unlink()
    run(workspace, scans)
    # Of the shards with slices 8 to 16 what is not of the cow, in one shard.
    assert n_markers(workspace) == {stage: n + 1 for stage, n in before.items()}
    assert set(counted) == {"bee.nii.gz", "dog.nii.gz"}
    assert not {one.subject_id for one in DatasetStore.open(last(workspace, "datasets")).records} & {"cow"}
    add_head(scans, "ant", seed=1)
    run(workspace, scans)
    require_equal(workspace, scans, tmp_path / "fresh")


def test_what_a_part_lost_is_made_again_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    scans, workspace = tmp_path / "scans", tmp_path / "workspace"

    def ingest() -> str:
        wanted = recipe(scans).studies[0].ingest
        assert wanted
        return ingest_flow(wanted, Execution(workspace=str(workspace), cluster=Inline()))

    refs = []
    (scans / "notes.nii.gz").parent.mkdir()
    (scans / "notes.nii.gz").write_text("no image")
    for name in ("ant", "bee", "cow"):
        add_head(scans, name)
        refs.append(ingest())
    stores = {str(path) for path in (workspace / "datasets").iterdir()}
    parts = [uri for uri in sorted(stores) if not isinstance(open_store(uri), JoinedStore)]
    assert (len(stores), len(parts)) == (5, 3)
    Path(parts[0], "images/c/0/0/0").write_bytes(b"")
    Path(parts[1], "slices.json").unlink()
    Path(parts[2], "done/0.json").unlink()
    (workspace / refs[1] / "rejected.json").write_text("{}")
    (workspace / refs[1] / "plan.json").unlink()
    for uri in sorted(stores - {parts[2]}):
        discard_damaged("datasets", uri)
    assert ingest() == refs[-1]
    assert {str(path) for path in (workspace / "datasets").iterdir()} == stores
    for uri in sorted(stores):
        # No command makes those that were before the last again.
        assert [one for one in problems_of("datasets", uri) if "`scoreinv repair datasets/" not in one] == []
        discard_damaged("datasets", uri)
        finish_if_all_is_there(uri)
        assert problems_of("datasets", uri) == []


def test_who_is_left_out_later_is_in_no_later_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)
    scans, workspace = tmp_path / "scans", tmp_path / "workspace"
    for name in ("ant", "bee", "cow"):
        add_head(scans, name)
    run(workspace, scans)
    run(workspace, scans, exclude_subjects=("bee",))
    assert {row["subject_id"] for row in read_scores(last(workspace, "scores"))} == {"ant", "cow"}


def test_an_empty_volume_is_left_out_once_and_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    settle(monkeypatch)
    scans, workspace = tmp_path / "scans", tmp_path / "workspace"
    add_head(scans, "ant")
    run(workspace, scans)
    tiny = np.zeros((20, 20, 2), np.int16)
    tiny[4:16, 4:16] = 500 + np.arange(12)[:, None, None]
    nibabel.save(nibabel.Nifti1Image(tiny, np.diag([0.005, 0.005, 3.0, 1.0])), scans / "bad.nii.gz")
    run(workspace, scans)
    data = DatasetStore.open(last(workspace, "datasets"))
    assert [one.file for one in data.listing.rejected] == ["bad.nii.gz"]
    add_head(scans, "cow")
    run(workspace, scans)
    counted.clear()
    os.utime(scans / "cow.nii.gz")
    add_head(scans, "dog")
    run(workspace, scans)
    assert set(counted) == {"cow.nii.gz", "dog.nii.gz"}
    data = DatasetStore.open(last(workspace, "datasets"))
    assert [one.file for one in data.listing.rejected] == ["bad.nii.gz"]
    assert {one.subject_id for one in data.records} == {"ant", "cow", "dog"}
