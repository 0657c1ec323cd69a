"""Who may read a workspace, and how recipes name the people in it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.identities import SALT_VARIABLE, Hasher
from storage.uri import write_json
from tasks.recipes import Reconstruction, TuneRecipe
from tasks.running.shards import Execution
from tasks.tuning.tune import prepared_tuning
from tasks.workspace import open_workspace, subjects_of
from tests.tasks import tiny


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(SALT_VARIABLE, raising=False)
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("folder", "wanted"),
    [(None, (0o700, 0o700, 0o600)), (0o755, (0o755, 0o700, 0o600)), (0o2770, (0o2770, 0o2770, 0o660))],
    ids=["a new one", "one that others may read", "one that is shared with a group"],
)
def test_nobody_else_reads_a_workspace_unless_its_group_may_write_it(
    tmp_path: Path, folder: int | None, wanted: tuple[int, int, int]
) -> None:
    place = tmp_path / "above" / "workspace"
    if folder is not None:
        place.mkdir(parents=True)
        place.chmod(folder)
    open_workspace(str(place))
    write_json(str(place / "stage" / "result.json"), {})
    assert (mode(place), mode(place / "stage"), mode(place / "stage" / "result.json")) == wanted
    assert mode(place.parent) == 0o755


def test_people_are_found_by_their_own_names_or_by_hashes(tmp_path: Path) -> None:
    names, kept, workspace = ("phantom-1", "nobody"), tmp_path / "kept", tmp_path / "hashed"
    assert subjects_of(str(kept), [tiny.dataset(kept).uri], names) == names
    assert not (kept / ".salt").exists()
    code, uri = Hasher(str(workspace)), tiny.dataset(workspace, is_hashed=True).uri
    assert subjects_of(str(workspace), [uri], names) == (code("phantom-1"), "nobody")
    assert subjects_of(str(workspace), [uri], [code("phantom-1")]) == (code("phantom-1"),)


def test_a_tuning_keeps_hashes_and_measures_on_the_people_it_was_told(tmp_path: Path) -> None:
    images = tiny.dataset(tmp_path, is_hashed=True)
    tiny.measurements(tmp_path, images)
    code, execution = Hasher(str(tmp_path)), Execution(workspace=str(tmp_path))
    recipe = TuneRecipe(
        measurements="measurements/tiny",
        reconstruction=Reconstruction(method=tiny.sampler(2), prior=tiny.prior(tmp_path / "prior")),
        subjects=("phantom-1",),
    )
    tuning, ref = prepared_tuning(recipe, execution)
    assert tuning.recipe.subjects == (code("phantom-1"),)
    assert {images.records[place].subject_id for place in tuning.job.places} == {code("phantom-1")}
    # The address must not be what somebody could try names on.
    assert ref == prepared_tuning(recipe.model_copy(update={"subjects": (code("phantom-1"),)}), execution)[1]
