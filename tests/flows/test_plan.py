"""Plans: recipes that load, say why and what they cost, and run."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from pydantic import ValidationError

from flows.cli import main
from flows.pipeline import pipeline_flow
from flows.plan_command import plan
from flows.recipe_files import load_execution, load_recipe
from scoreinv.measurement import GaussianNoise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from storage.errors import StoreNotFound
from storage.listing import Rejected
from storage.sources import DicomSource, NiftiSource, PhantomSource
from tasks.checks import check_pipeline
from tasks.planning.plan import Plan, make_plan
from tasks.planning.plan_text import duration, plan_text
from tasks.planning.presets import PRESETS, Preset
from tasks.recipes import PipelineRecipe, PlanRecipe
from tasks.running.cluster import Inline, LocalWorkers, RemoteWorkers
from tasks.running.shards import Execution
from tasks.workers import probe
from tests.tasks import tiny

EXAMPLES = Path(__file__).parents[2] / "examples"
MRI = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.02))
PHANTOMS = PhantomSource(modality="mri", n_volumes=2, n_slices=3)

ASKED: dict[str, dict[str, Any]] = {
    "ct": {"source": DicomSource(path=str(EXAMPLES / "ct")), "measurement": SparseViewCT(n_views=23)},
    "mri": {"source": NiftiSource(path=str(EXAMPLES / "mri")), "measurement": CartesianMRI(acceleration=8)},
}


@pytest.fixture(autouse=True)
def _short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """That something is timed is tested, not how well."""
    for name in ("CALL_SECONDS", "LONG_CALL_SECONDS", "STEPS_SECONDS"):
        monkeypatch.setattr(probe, name, 0.0)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """With a tiny trained prior: of those that fit the phantoms, it is the nearest."""
    tiny.prior(tmp_path / "workspace" / "priors" / "tiny" / "prior")
    with patch.dict(os.environ):
        yield tmp_path / "workspace"


def inline(workspace: Path) -> Execution:
    return Execution(workspace=str(workspace), cluster=Inline())


def made(workspace: Path, **asked: Any) -> tuple[Plan, str]:
    """A plan and its text."""
    found = make_plan(PlanRecipe(**{"measurement": MRI, **asked}), inline(workspace), lambda _: None)
    return found, plan_text(found, "plan.yaml")


def loaded(folder: Path, text: str) -> tuple[PipelineRecipe, Execution]:
    path = folder / "loaded.yaml"
    path.write_text(text)
    return load_recipe(PipelineRecipe, path), load_execution(Execution(), path)


@pytest.mark.parametrize("modality", ASKED)
def test_the_example_slices_get_a_recipe_with_their_shipped_prior(tmp_path: Path, modality: str) -> None:
    found, text = made(tmp_path, **ASKED[modality])
    recipe, execution = loaded(tmp_path, text)
    assert (recipe, execution) == (found.pipeline, found.execution)
    check_pipeline(recipe, str(tmp_path))
    (study,) = recipe.studies
    assert study.simulation.measurement == ASKED[modality]["measurement"]
    assert study.simulation.uses_fine_images
    kinds = [choice.method.kind for choice in study.reconstructions]
    assert kinds[:2] == ["direct", "tv"]
    chosen = study.reconstructions[-1]
    preset = PRESETS[found.draft.grid.modality]["balanced"]
    assert (chosen.method, chosen.n_samples, chosen.precision) == (*preset, found.timing.precision)
    assert chosen.prior == {"ct": "ct-320", "mri": "mri-240"}[modality]
    assert study.ingest is not None
    assert study.ingest.image == found.draft.prior.contract.image
    assert found.draft.images.fingerprint.n_slices == 8


def test_the_comments_hold_the_cost_the_images_and_the_command(workspace: Path) -> None:
    found, text = made(workspace, source=PHANTOMS, preset="best")
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    each, total = found.seconds(), found.total_seconds()
    assert list(each) == ["fast", "balanced", "best", "samples", "FISTA-TV"]
    for name, option in found.draft.options.items():
        (row,) = [line.split() for line in comments.splitlines() if line.startswith(f"#   {name} ")]
        n_calls = option.n_samples * option.method.n_calls
        assert row[2:4] == [str(option.n_samples), str(n_calls)]
        assert " ".join(row[4:6]) == duration(each[name])
        assert " ".join(row[6:8]) == duration(total[name])
        assert row[8:] == (["written", "below"] if name in ("best", "FISTA-TV") else [])
    assert each["best"] == pytest.approx(found.timing.methods[2])
    assert "mri, 6 slices of 2 volumes of 2 subjects" in comments
    assert "64 x 64 pixels of 5 mm, 320 mm wide" in comments
    assert "scoreinv pipeline plan.yaml" in comments
    assert "ct-128" not in text


def test_names_of_files_cannot_end_a_comment(workspace: Path) -> None:
    found, _ = made(workspace, source=PHANTOMS)
    bad = tuple(Rejected(file=f"{letter}title: mine", reason="damaged") for letter in ("\n", "\r", "\x00", "\u2028"))
    fingerprint = found.draft.images.fingerprint.model_copy(update={"rejected": bad})
    images = found.draft.images._replace(fingerprint=fingerprint)
    text = plan_text(found._replace(draft=found.draft._replace(images=images)), "plan.yaml")
    assert "Left out: 4" in text
    assert loaded(workspace, text)[0] == found.pipeline


def test_presets_take_more_calls_from_fast_to_samples() -> None:
    for presets in PRESETS.values():
        numbers = [preset.n_samples * preset.method.n_calls for preset in presets.values()]
        assert list(presets) == ["fast", "balanced", "best", "samples"]
        assert numbers == sorted(set(numbers))


def test_the_slices_are_shared_among_the_workers_that_have_work(workspace: Path) -> None:
    """Two shards of three slices each."""
    found, _ = made(workspace, source=PHANTOMS)
    assert found.draft.images.shard_size == 3
    for n_workers, n_slices in ((1, 6), (2, 3), (100, 3)):
        total = found._replace(n_workers=n_workers).total_seconds()
        assert total["balanced"] == pytest.approx(n_slices * found.seconds()["balanced"])


def test_batches_are_no_larger_than_a_shard_can_fill(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "LONG_CALL_SECONDS", 100.0)
    found, _ = made(workspace, source=PHANTOMS)
    assert list(found.timing.calls["float32"]) == [1, 2]
    monkeypatch.setitem(PRESETS["mri"], "best", Preset(PRESETS["mri"]["best"].method, n_samples=8))
    found, _ = made(workspace, source=PHANTOMS, preset="best")
    assert list(found.timing.calls["float32"]) == [1, 2, 4, 8, 16]


def test_a_data_set_is_used_as_it_is(workspace: Path) -> None:
    tiny.dataset(workspace, shard_size=4)
    found, text = made(workspace, dataset="datasets/tiny")
    (study,) = loaded(workspace, text)[0].studies
    assert (study.ingest, study.dataset) == (None, "datasets/tiny")
    assert not study.simulation.uses_fine_images
    assert found.draft.prior.name == "priors/tiny"
    assert found.draft.images.shard_size == 4
    with pytest.raises(StoreNotFound, match="datasets there: datasets/tiny"):
        made(workspace, dataset="datasets/other")


def test_a_large_source_is_read_in_part_and_the_rest_is_said_to_cost_more(workspace: Path) -> None:
    _, text = made(workspace, source=PHANTOMS, max_volumes=1)
    assert "3 slices of 1 volumes" in text
    assert "Only the first 1 volumes were read" in text
    assert "Every 1000 further slices" in text


def test_a_prior_that_was_named_is_taken_or_refused(workspace: Path) -> None:
    assert made(workspace, source=PHANTOMS, prior="priors/tiny")[0].draft.prior.name == "priors/tiny"
    with pytest.raises(ValueError, match="ct-128: it is for ct"):
        made(workspace, source=PHANTOMS, prior="ct-128")


def test_images_of_the_other_modality_are_refused_before_anything_is_timed(workspace: Path) -> None:
    with pytest.raises(ValueError, match="'sparse_view_ct' is for ct images, but these are mri"):
        made(workspace, source=PHANTOMS, measurement=SparseViewCT())


@pytest.mark.parametrize("asked", [{}, {"source": PHANTOMS, "dataset": "datasets/a"}], ids=["none", "two"])
def test_images_come_from_one_place(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="either source or dataset"):
        PlanRecipe(measurement=MRI, **asked)


EXECUTIONS = {
    "local": Execution(cluster=LocalWorkers(n_workers=3, n_threads=2), batch_size=5, device="cpu"),
    "inline": Execution(workspace="/a place", cluster=Inline(), retries=7),
    "remote": Execution(cluster=RemoteWorkers(address="tcp://10.0.0.1:8786"), device="cuda"),
}


@pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS)
def test_the_file_holds_how_to_run_it(tmp_path: Path, workspace: Path, execution: Execution) -> None:
    found, _ = made(workspace, source=PHANTOMS)
    text = plan_text(found._replace(execution=execution), "plan.yaml")
    assert loaded(tmp_path, text) == (found.pipeline, execution)
    assert ("workspace:" in text) == (execution.workspace == "/a place")


def test_durations_are_in_the_unit_people_use() -> None:
    shown = [duration(seconds) for seconds in (0.0123, 59, 90, 5399, 5400, 36_000, 200_000)]
    assert shown == ["0.012 s", "59 s", "1.5 min", "90 min", "1.5 h", "10 h", "2.3 days"]


# ---- the command -----------------------------------------------------------------------------------------------


WORDS = [
    "plan",
    "source={kind: phantom, modality: mri, n_volumes: 1, n_slices: 2}",
    "measurement={kind: cartesian_mri, acceleration: 2}",
    "preset=fast",
    "execution.cluster.kind=inline",
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_a_file_is_replaced_only_if_asked(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workspace)
    words = [*WORDS, "--workspace", str(workspace)]
    Path("plan.yaml").write_text("mine")
    assert run(*words) == 1
    said = capsys.readouterr().err
    assert said == "error: plan.yaml exists: choose another output, or say overwrite=true to replace it\n"
    assert Path("plan.yaml").read_text() == "mine"
    assert run(*words, "output=nowhere/plan.yaml") == 1
    assert "there is no folder nowhere" in capsys.readouterr().err

    assert run(*words, "--dry-run") == 0
    shown, _ = loaded(workspace, capsys.readouterr().out)
    assert shown.studies[0].reconstructions[-1].prior == "priors/tiny"
    assert Path("plan.yaml").read_text() == "mine"

    assert run(*words, "overwrite=true") == 0
    said_out, said_err = capsys.readouterr()
    assert said_out == "plan.yaml\n"
    assert "Expected cost" in said_err
    assert load_recipe(PipelineRecipe, Path("plan.yaml")).studies[0].reconstructions[-1].prior == "priors/tiny"

    # The command that the plan names finds workspace, cluster and batch size in it; options go before.
    (command,) = [line.split(maxsplit=1)[1] for line in said_err.splitlines() if line.startswith("  scoreinv ")]
    assert run(*shlex.split(command), "--dry-run", "execution.batch_size=7") == 0
    execution = yaml.safe_load(capsys.readouterr().out)["execution"]
    assert execution["workspace"] == str(workspace)
    assert execution["cluster"] == {"kind": "inline"}
    assert (execution["batch_size"], execution["device"]) == (7, "cpu")


@pytest.mark.usefixtures("prefect_server")
def test_a_plan_for_a_data_set_runs_as_it_is(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    tiny.dataset(workspace, n=2)
    asked = PlanRecipe(dataset="datasets/tiny", measurement=MRI, preset="fast")
    plan(asked, inline(workspace), is_dry=False)
    path = Path("plan.yaml")
    page = workspace / pipeline_flow(load_recipe(PipelineRecipe, path), load_execution(Execution(), path))
    text = page.read_text()
    for row in ("zero-filled", "FISTA-TV", "Bregman (10 calls)"):
        assert row in text
    assert [path.name for path in (workspace / "datasets").iterdir()] == ["tiny"]
