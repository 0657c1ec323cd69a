"""A pipeline by its recipe's name: which names a form may give, and a run under a real server."""

from pathlib import Path

import pytest
from prefect.exceptions import ParameterTypeError

from flows.plan import plan_flow
from flows.recipe import found_recipe, recipe_flow
from flows.recipe_errors import RecipeError
from flows.recipe_files import RECIPES, load_execution, load_recipe
from storage.errors import StoreNotFound
from tasks.recipes import PipelineRecipe, PlanRequest
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tasks.workers import probe
from tests.flows.test_flows import artifacts_of
from tests.tasks import tiny

TINY = """
title: Nightly
n_pictures: 1
studies:
- name: mri
  ingest:
    source: {kind: phantom, modality: mri, n_volumes: 1, n_slices: 2}
    image: {modality: mri, size: 32, pixel_mm: 8.0, low: 0, high: 1}
  simulation: {measurement: {kind: cartesian_mri, acceleration: 4}}
  reconstructions: [{method: {kind: direct}}]
execution: {cluster: {kind: inline}, workspace: elsewhere}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that forms may choose from, with one recipe; beside it what they may not read."""
    folder = tmp_path / "recipes"
    (folder / "ward").mkdir(parents=True)
    (folder / "ward" / "nightly.yaml").write_text(TINY)
    (folder / "notes.txt").write_text(TINY)
    (tmp_path / "secret.yaml").write_text(TINY)
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    monkeypatch.setenv("SCOREINV_RECIPES", str(folder))
    return folder


def test_names_of_shipped_recipes_and_of_files_below_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_recipe("smoke", "workspace") == RECIPES / "smoke.yaml"
    assert found_recipe("ward/nightly.yaml", "workspace") == folder / "ward" / "nightly.yaml"
    monkeypatch.delenv("SCOREINV_RECIPES")
    assert found_recipe("demo", "workspace") == RECIPES / "demo.yaml"


@pytest.mark.parametrize(
    "name",
    ["", ".", "nothing", "nightly.yaml", "notes.txt", "../secret.yaml", "ward/../../secret.yaml", "link.yaml", "ward"],
)
def test_other_files_are_refused(folder: Path, name: str) -> None:
    for given in (name, str(folder.parent / "secret.yaml")):
        with pytest.raises(RecipeError, match="there is no recipe"):
            found_recipe(given, "workspace")


@pytest.mark.parametrize("name", ["/etc/hostname.yaml", "ward/nightly.yaml", "~/x.yaml"])
def test_without_a_folder_only_what_ships(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("SCOREINV_RECIPES", raising=False)
    with pytest.raises(RecipeError, match="choose .*demo.*; or set SCOREINV_RECIPES"):
        found_recipe(name, "workspace")


@pytest.mark.parametrize("name", ["plans/0a1b2c3d4e5f", "plans/", "plans/../reports"])
def test_a_plan_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises((StoreNotFound, ValueError), match="plans|segments"):
        found_recipe(name, str(tmp_path))


@pytest.mark.parametrize("wrong", [{"n_workers": -1}, {"batch_size": "many"}, {"device": "tpu"}, {"misspelt": 1}])
def test_a_form_refuses_what_does_not_fit(wrong: dict[str, object]) -> None:
    with pytest.raises((ParameterTypeError, TypeError)):
        recipe_flow.validate_parameters({"recipe": "smoke"} | wrong)


@pytest.mark.usefixtures("prefect_server", "folder")
def test_a_run_by_name_shows_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCOREINV_REPORT_URL", "http://127.0.0.1:4201")
    made = recipe_flow("ward/nightly.yaml", changes=("title=Tonight", "execution.retries=0"), workspace="here")
    assert "<title>Tonight</title>" in (tmp_path / "here" / made).read_text()
    assert not (tmp_path / "elsewhere").exists()
    shown = {str(one.key): str(one.data) for one in artifacts_of("recipe") if one.type != "progress"}
    key = f"reports-{made.split('/')[1]}"
    assert shown.keys() == {key, f"{key}-picture-1", f"{key}-link"}
    assert f"(http://127.0.0.1:4201/{made})" in shown[f"{key}-link"]
    assert "# Tonight" in shown[key]


@pytest.mark.usefixtures("prefect_server")
def test_a_plan_of_a_form_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALL_SECONDS", "LONG_CALL_SECONDS", "STEPS_SECONDS"):
        monkeypatch.setattr(probe, name, 0.0)
    tiny.prior(tmp_path / "priors" / "tiny" / "prior")
    source = {"kind": "phantom", "modality": "mri", "n_volumes": 2, "n_slices": 3}
    measurement = {"kind": "cartesian_mri", "acceleration": 2}
    asked = PlanRequest.model_validate({"source": source, "measurement": measurement, "preset": "fast"})
    ref = plan_flow(asked, Execution(workspace=str(tmp_path), cluster=Inline()))
    (shown,) = artifacts_of("plan")
    assert f"with `{ref}` as its recipe" in str(shown.data)
    path = found_recipe(ref, str(tmp_path))
    assert load_recipe(PipelineRecipe, path).studies[0].reconstructions[-1].prior == "priors/tiny"
    execution = load_execution(Execution(), path)
    assert (execution.workspace, execution.cluster) == (str(tmp_path), Inline())
