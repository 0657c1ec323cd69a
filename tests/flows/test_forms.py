"""What a form may name: places below registered roots and models by name, wherever in a recipe they stand."""

from typing import Any

import pytest

from flows.forms import below_roots, from_form, registered_roots
from flows.recipe import load_pipeline
from flows.recipe_files import RECIPES
from scoreinv.errors import UserError
from storage.sources import NiftiSource, SeveralSources
from tasks.recipes import IngestRecipe, Reconstruction, TrainRecipe
from tasks.running.kubernetes import KubernetesWorkers
from tasks.running.shards import Execution, Launch
from tasks.running.slurm import SlurmWorkers
from tests.tasks import tiny

ROOTS = {"scans": "/data/scans", "results": "s3://bucket/out"}


def ingest(*paths: str) -> IngestRecipe:
    sources = tuple(NiftiSource(path=path) for path in paths)
    return IngestRecipe(source=SeveralSources(sources=sources) if len(sources) > 1 else sources[0], image=tiny.MRI)


def test_places_are_found_wherever_they_stand() -> None:
    assert below_roots(ingest("scans/a"), ROOTS) == ingest("/data/scans/a")
    assert below_roots(ingest("scans/a", "shipped:mri"), ROOTS) == ingest("/data/scans/a", "shipped:mri")
    execution = Execution(workspace="results/ward", training=Launch(cache="scans/cache"))
    found = below_roots(execution, ROOTS)
    assert (found.workspace, found.training.cache) == ("s3://bucket/out/ward", "/data/scans/cache")
    assert below_roots(Execution(), ROOTS) == Execution()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_what_an_operator_wrote(path: Any) -> None:
    recipe = load_pipeline(path)
    assert below_roots(recipe, {}, known=recipe) == recipe


@pytest.mark.parametrize(
    "spec",
    [
        ingest("/etc"),
        ingest("scans/a", "/etc"),
        ingest("file:///etc"),
        ingest("s3://other/x"),
        Execution(workspace="/tmp"),
        Execution(training=Launch(cache="/tmp")),
        Execution(cluster=SlurmWorkers(prologue=("touch /tmp/here",))),
        Execution(cluster=KubernetesWorkers(image="strange:latest")),
        Reconstruction(prior="/tmp/prior"),
        Reconstruction(prior="s3://bucket/prior"),
        TrainRecipe(name="x", datasets=("datasets/a",), initial="/tmp/x"),
        TrainRecipe(name="x", datasets=("datasets/a",), coarse="../x"),
    ],
)
def test_raw_places_are_refused(spec: Any) -> None:
    with pytest.raises(UserError):
        below_roots(spec, ROOTS)


def test_a_cluster_that_an_operator_wrote_is_free() -> None:
    execution = Execution(cluster=SlurmWorkers(prologue=("module load cuda",)))
    assert below_roots(execution, ROOTS, known=execution) == execution


def test_a_change_of_a_form_is_no_word_of_an_operator() -> None:
    with pytest.raises(UserError, match="'/etc' is not below"):
        below_roots(ingest("/etc"), ROOTS, known=ingest("/data/own"))
    assert below_roots(ingest("/data/own"), ROOTS, known=ingest("/data/own")) == ingest("/data/own")


def test_outside_of_a_deployment_places_are_free() -> None:
    assert from_form(ingest("/data/own")) == ingest("/data/own")


def test_the_environment_of_a_worker_registers_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREINV_ROOTS", '{"scans": "/data/scans"}')
    assert registered_roots() == {"scans": "/data/scans"}
    for wrong in ("[]", "{", '{"scans": "s3://key:word@bucket"}'):
        monkeypatch.setenv("SCOREINV_ROOTS", wrong)
        with pytest.raises(UserError, match="SCOREINV_ROOTS of this worker") as refused:
            registered_roots()
        assert "key:word" not in str(refused.value)
