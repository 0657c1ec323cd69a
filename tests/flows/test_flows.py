"""The flows under a real Prefect server: parameters, the whole pipeline, and a second run that has nothing to do."""

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowFilter, FlowFilterName
from prefect.client.schemas.objects import Artifact
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ParameterTypeError

from flows.pipeline import pipeline_flow
from flows.recipe import load_pipeline
from flows.recipe_files import RECIPES
from scoreinv.spec import Spec
from storage.shards import ShardedStore
from tasks.finished import finished
from tasks.recipes import PipelineRecipe, ReportRecipe
from tasks.running.cluster import LocalWorkers
from tasks.running.shards import Execution
from tests.tasks import tiny

ROOT = Path(__file__).parents[2]
SMOKE = yaml.safe_load((RECIPES / "smoke.yaml").read_text())
STUDY = SMOKE["studies"][0]

PARAMETERS: dict[str, dict[str, Any]] = {
    "ingest": STUDY["ingest"],
    "measure": {"dataset": "datasets/ab12", "simulation": STUDY["simulation"]},
    "train": {"name": "tiny", "datasets": ["datasets/ab12"]},
    "reconstruct": {"measurements": "measurements/ab12", "reconstruction": {"method": {"kind": "direct"}}},
    "tune": {"measurements": "measurements/ab12", "reconstruction": {"method": {"kind": "tv"}}},
    "evaluate": {"reconstructions": ["reconstructions/ab12"]},
    "report": {"scores": ["scores/ab12"]},
    "plan": {"dataset": "datasets/ab12", "measurement": {"kind": "sparse_view_ct"}},
    "pipeline": SMOKE,
    "benchmark": {"dataset": "datasets/ab12", "simulations": [STUDY["simulation"]], "prior": "ct-128"},
}


def flow_of(name: str) -> Flow[Any, Any]:
    flow: Flow[Any, Any] = getattr(import_module(f"flows.{name}"), f"{name}_flow")
    return flow


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_flow_takes_what_a_form_or_a_schedule_sends(name: str) -> None:
    """As JSON: this is what a deployment validates."""
    parameters = flow_of(name).validate_parameters({"recipe": PARAMETERS[name], "execution": {"batch_size": 3}})
    assert isinstance(parameters["recipe"], Spec)
    assert parameters["execution"].batch_size == 3
    with pytest.raises(ParameterTypeError):
        flow_of(name).validate_parameters({"recipe": PARAMETERS[name] | {"misspelt": 1}})


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_form_describes_every_field(name: str) -> None:
    schema = flow_of(name).parameters.model_dump()
    assert set(schema["properties"]) == {"recipe", "execution"}
    assert all(field.get("description") for field in schema["properties"].values())


def test_annotations_are_not_postponed_anywhere() -> None:
    """It breaks the validation of a flow's parameters at run time."""
    folders = ("flows", "tasks", "storage", "scoreinv")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [node for node in imports if node.module == "__future__"], path


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_load(path: Path) -> None:
    recipe = load_pipeline(path)
    assert load_pipeline(path).digest() == recipe.digest()
    assert PipelineRecipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_a_report_names_every_study_or_none() -> None:
    with pytest.raises(ValueError, match="names holds 1 for 2 scores: give one for each, or none"):
        ReportRecipe(scores=("scores/a", "scores/b"), names=("ct",))


@pytest.mark.usefixtures("prefect_server")
def test_the_pipeline_makes_a_report_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    prior = tiny.prior(tmp_path / "prior", image=tiny.MRI.model_copy(update={"size": 32, "pixel_mm": 8.0}))
    sampled = {"method": tiny.sampler(3).model_dump(mode="json"), "prior": prior, "n_samples": 2}
    recipe = PipelineRecipe.model_validate(with_reconstruction(SMOKE, sampled))
    execution = Execution(workspace=str(workspace), cluster=LocalWorkers(n_workers=1))

    report = workspace / pipeline_flow(recipe, execution)
    page = report.read_text()
    for text in (
        "pixels (ct)",
        "pixels (mri)",
        "FBP",
        "zero-filled",
        "DDS (3 calls), mean of 2 samples",
        "Coverage of 90 %",
        "Spread / error",
    ):
        assert text in page, text
    beside = {path.name: path.read_bytes() for path in report.parent.iterdir()}
    assert {beside[f"scores-{i}.csv"] for i in (1, 2)} == {
        path.read_bytes() for path in workspace.glob("scores/*/*.csv")
    }
    assert b"zero-filled" in beside["table-2.tex"]
    assert beside["scores-1.parquet"][:4] == b"PAR1"
    tables = "".join(path.read_text() for path in workspace.glob("scores/*/table.md"))
    assert all(name in tables for name in ("| FBP | 4 |", "| zero-filled | 4 |", "mean of 2 samples | 4 |"))
    shown = artifacts_of("pipeline")
    progress, *shown = shown
    assert (progress.type, progress.data) == ("progress", 100)
    said = r"4 of 4 slices: Evaluating datasets/\w+; shards: \d done, 0 failed, 0 left; after \d+ s"
    assert re.fullmatch(said, str(progress.description)), progress.description
    assert [(one.type, one.key) for one in shown] == [
        ("markdown", f"reports-{report.parent.name}"),
        ("image", f"reports-{report.parent.name}-picture-1"),
        ("image", f"reports-{report.parent.name}-picture-2"),
    ]
    text = str(shown[0].data)
    assert "DDS (3 calls), mean of 2 samples | 4 |" in text
    assert text.count("](data:image/png;base64,") == 2
    assert "`scoreinv serve --workspace " in text
    assert not [one for one in shown if "file:" in str(one.data)]
    assert all(f"`{path.parent.name}/{path.name}`" in text for path in workspace.glob("reconstructions/*"))
    assert artifacts_of("reconstruct") == []
    assert {one.key for one in artifacts_of("evaluate")} <= set(keys(workspace))

    stores = sorted(path.parent for path in workspace.glob("*/*/plan.json"))
    assert [store.parent.name for store in stores].count("reconstructions") == 3
    assert all(ShardedStore.open(str(store)).verify() == [] for store in stores)

    assert finished("pipeline", recipe, str(workspace)) == str(report.relative_to(workspace))
    assert not finished("pipeline", recipe, str(tmp_path / "elsewhere"))
    whatever_is_damaged_is_seen(recipe, workspace)

    before = times(workspace)
    assert workspace / pipeline_flow(recipe, execution) == report
    assert times(workspace) == before


def whatever_is_damaged_is_seen(recipe: PipelineRecipe, workspace: Path) -> None:
    """By a look alone: another page, another table, a flipped byte of an array, a lost marker."""
    stores = ("datasets", "measurements", "reconstructions", "scores")
    patterns = [
        f"{stage}/*/{file}" for stage in stores for file in ("done/1.json", "_SUCCESS", "*/c/1/0/0", "*/c/1/0/0/0")
    ]
    patterns += ["reports/*/report.html", "reports/*/*.png", "reports/*/*.tex", "scores/*/*.csv"]
    found = [[path for path in workspace.glob(pattern) if path.is_file()] for pattern in patterns]
    assert any(path.match("measurements/*/*/c/1/0/0/0") for files in found for path in files)
    for path in [files[0] for files in found if files]:
        content = path.read_bytes()
        path.write_bytes(b"" if path.suffix in (".png", ".tex") else bytes([content[0] ^ 1]) + content[1:])
        assert not finished("pipeline", recipe, str(workspace)), path
        path.write_bytes(content)
    assert finished("pipeline", recipe, str(workspace))


def with_reconstruction(recipe: dict[str, Any], reconstruction: dict[str, Any]) -> dict[str, Any]:
    """The recipe with one more reconstruction in its second study."""
    first, second = recipe["studies"]
    return recipe | {"studies": [first, second | {"reconstructions": [*second["reconstructions"], reconstruction]}]}


def artifacts_of(name: str) -> list[Artifact]:
    """What the page of the last run of a flow shows, by key."""
    with get_client(sync_client=True) as client:
        wanted = FlowFilter(name=FlowFilterName(any_=[name]))
        (run,) = client.read_flow_runs(flow_filter=wanted, sort=FlowRunSort.START_TIME_DESC, limit=1)
        its = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        return sorted(client.read_artifacts(artifact_filter=its), key=lambda one: str(one.key))


def keys(workspace: Path) -> list[str]:
    return [f"{path.parent.name}-{path.name}" for path in workspace.glob("*/*")]


def times(workspace: Path) -> dict[str, int]:
    """When each file but the report was written."""
    files = [path for path in workspace.rglob("*") if path.is_file() and path.parts[-3] != "reports"]
    return {str(path): path.stat().st_mtime_ns for path in files}
