"""deployments/prefect.yaml, and what the forms of the Prefect UI make of the flows' parameters."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import ValidationError, validate

from flows.deployment import form_of
from flows.forms import PLACES
from flows.recipe_files import RECIPES

ROOT = Path(__file__).parents[1]
CONTENT = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
DEPLOYMENTS: list[dict[str, Any]] = CONTENT["deployments"]
INGEST = [deployment["name"] for deployment in DEPLOYMENTS].index("ingest")
FORMS = {deployment["entrypoint"]: deployment for deployment in DEPLOYMENTS}

each_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
each_entrypoint = pytest.mark.parametrize("entrypoint", FORMS)


def flow_of(entrypoint: str) -> Flow[..., str]:
    path, name = entrypoint.split(":")
    assert (ROOT / path).is_file()
    flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(flow, Flow)
    return flow


def schema_of(entrypoint: str) -> dict[str, Any]:
    return parameter_schema(flow_of(entrypoint)).model_dump()


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from nodes(part)


def resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema


def shown_member(value: dict[str, Any], members: list[dict[str, Any]]) -> dict[str, Any]:
    """The member that the form takes a value for: the first of those that know most of its keys."""
    return max(members, key=lambda member: len(value.keys() & member.get("properties", {}).keys()))


def wrongly_shown(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[Any]:
    """Values of a union that the form would take for another kind, and mix with that kind's defaults."""
    schema = resolved(schema, definitions)
    if isinstance(value, dict) and "anyOf" in schema:
        schema = shown_member(value, [resolved(member, definitions) for member in schema["anyOf"]])
        if "kind" in value and schema["properties"]["kind"].get("const") != value["kind"]:
            yield value
            return
    if isinstance(value, dict):
        for key, part in value.items():
            yield from wrongly_shown(part, schema["properties"][key], definitions)
    elif isinstance(value, list):
        for part in value:
            yield from wrongly_shown(part, schema["items"], definitions)


def test_names_differ() -> None:
    names = [(deployment["entrypoint"], deployment["name"]) for deployment in DEPLOYMENTS]
    assert len(set(names)) == len(names)


def test_every_flow_has_a_deployment() -> None:
    modules = {path.stem for path in (ROOT / "flows").glob("*.py") if "@flow" in path.read_text()}
    assert {Path(entrypoint.split(":")[0]).stem for entrypoint in FORMS} == modules


@each_deployment
def test_default_parameters_are_valid(deployment: dict[str, Any]) -> None:
    flow = flow_of(deployment["entrypoint"])
    assert deployment["description"]
    if parameters := deployment.get("parameters"):
        flow.validate_parameters(parameters)


def test_short_forms_name_recipes_that_ship() -> None:
    schema = schema_of("flows/recipe.py:recipe_flow")
    shipped = {path.stem for path in RECIPES.glob("*.yaml")}
    listed = re.search(r"ships \((.*?)\)", schema["properties"]["recipe"]["description"], re.DOTALL)
    assert listed
    assert set(re.split(r",\s+", listed[1])) == shipped
    named = {
        d["parameters"]["recipe"]
        for d in DEPLOYMENTS
        if d["entrypoint"].startswith("flows/recipe.py") and "parameters" in d
    }
    assert named == {"demo", "smoke"}
    assert not schema["definitions"], "a short form holds no boxes"


@each_entrypoint
def test_forms_offer_a_relative_workspace(entrypoint: str) -> None:
    """That of whoever deployed would be another machine's."""
    properties = schema_of(entrypoint)["properties"]
    default = properties["workspace"]["default"] if "workspace" in properties else properties["execution"]["default"]
    assert (default if isinstance(default, str) else default["workspace"]) == "workspace"


def test_a_plan_from_a_form_writes_no_file_of_the_machine() -> None:
    fields = schema_of("flows/plan.py:plan_flow")["definitions"]["PlanRequest"]["properties"]
    assert fields.keys() & {"output", "overwrite"} == set()


FREE_TEXTS = {
    *("name", "title", "licence", "names", "training_data", "missing"),  # shown
    *("subjects", "validation_subjects", "only_subjects", "exclude_subjects", "series", "series_uids", "pattern"),
    *("dataset", "datasets", "measurements", "reconstructions", "calibration", "scores"),  # references
    *("recipe", "changes"),  # flows/recipe.py looks at them
    *("key", "address"),
    "source",  # of the inbox, which looks at it
    # Of clusters and certificates that only an operator describes: flows/forms.py refuses them as a whole.
    *("queue", "account", "walltime", "job_extra", "prologue", "environment", "python", "interface", "folder"),
    *("image", "namespace", "service_account", "secrets", "claims", "node_selector", "ca", "cert"),
}
"""Options that take any text and lead to no file."""


@each_entrypoint
def test_no_text_of_a_form_leads_to_a_file_unseen(entrypoint: str) -> None:
    """A new option that takes any text belongs into one of both."""
    schema = schema_of(entrypoint)
    fields = [item for node in nodes(schema) for item in node.get("properties", {}).items()]
    texts = {name for name, field in fields if any(is_free_text(part) for part in (field, field.get("items", {})))}
    assert texts - FREE_TEXTS - PLACES.keys() == set()


def is_free_text(field: dict[str, Any]) -> bool:
    return field.get("type") == "string" and not field.keys() & {"enum", "const", "pattern"}


def test_an_inbox_is_a_form_that_fits_on_a_screen() -> None:
    schema = schema_of("flows/inbox.py:inbox_flow")
    assert len(schema["properties"]) <= 8
    assert schema["required"] == ["source"]
    assert not schema["definitions"], "a short form holds no boxes"


@pytest.mark.parametrize("place", ["s3://key:secret@bucket/in", "https://me:secret@host/x"])
def test_the_server_refuses_a_password_before_it_is_kept(place: str) -> None:
    for entrypoint, given in (("flows/inbox.py:inbox_flow", {"source": place}), ("flows/ingest.py:ingest_flow", None)):
        given = given or {"recipe": DEPLOYMENTS[INGEST]["parameters"]["recipe"] | {"source": nifti(place)}}
        schema = flow_of(entrypoint).parameters.model_dump_for_openapi()
        with pytest.raises(ValidationError, match="secret"):
            validate(given, schema, raise_on_error=True)
        ours = json.loads(json.dumps(given).replace(place, "shipped:mri"))
        validate(ours, schema, raise_on_error=True)


def nifti(path: str) -> dict[str, str]:
    return {"kind": "nifti", "path": path}


def test_what_runs_networks_shares_one_queue() -> None:
    queues = {d["name"]: d["work_pool"].get("work_queue_name", "default") for d in DEPLOYMENTS}
    heavy = {"reconstruct", "train", "tune", "demo", "recipe", "pipeline", "benchmark", "plan", "inbox", "ingested"}
    assert {name for name, queue in queues.items() if queue == "accelerator"} == heavy
    assert {d["work_pool"]["name"] for d in DEPLOYMENTS} == {"scoreinv"}, "a queue's limit holds within its pool"
    assert not [d for d in DEPLOYMENTS if "concurrency_limit" in d]


@each_deployment
def test_forms_show_the_kinds_that_are_given(deployment: dict[str, Any]) -> None:
    schema = schema_of(deployment["entrypoint"])
    defaults = {name: field.get("default") for name, field in schema["properties"].items() if "default" in field}
    values = defaults | deployment.get("parameters", {})
    root = {"properties": schema["properties"]}
    assert list(wrongly_shown(values, root, schema["definitions"])) == []


@each_entrypoint
def test_forms_offer_every_kind(entrypoint: str) -> None:
    schema = schema_of(entrypoint)
    unions = [node for node in nodes(schema) if "discriminator" in node]
    assert unions or not schema["definitions"]
    for union in unions:
        members = [resolved(member, schema["definitions"]) for member in union["anyOf"]]
        assert not [member for member in members if "anyOf" in member], "the form shows raw JSON"
        for member in (member for member in members if member.get("type") != "null"):
            # All that the form knows of a member without options is its kind.
            kind = member["properties"]["kind"]["const"]
            if member["properties"].keys() == {"kind"}:
                assert shown_member({"kind": kind}, members) is member


@each_entrypoint
def test_forms_lose_no_part_of_a_description(entrypoint: str) -> None:
    # They render Markdown and drop what looks like a tag.
    texts = [str(node["description"]) for node in nodes(schema_of(entrypoint)) if "description" in node]
    assert [text for text in texts if re.search(r"<\w", text)] == []


def test_labels_are_words() -> None:
    definitions = schema_of("flows/reconstruct.py:reconstruct_flow")["definitions"]
    assert definitions["PredictorCorrector"]["title"] == "Predictor Corrector"
    assert definitions["Reconstruction"]["properties"]["n_samples"]["title"] == "Number of samples"
    assert definitions["Execution"]["properties"]["batch_size"]["title"] == "Batch size"
    fields = form_of(flow_of("flows/inbox.py:inbox_flow"))["properties"]
    assert [field["title"] for field in fields.values()] == [
        *("Source", "Files", "Measurement", "Preset", "Prior", "Workspace", "Number of workers"),
    ]
