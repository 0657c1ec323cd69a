"""What the command says to people: keys, plans, and errors."""

from typing import Any

import yaml

from flows.recipe_files import RecipeError
from scoreinv.spec import Spec
from storage.errors import StoreError
from tasks.recipes import PipelineRecipe, Study
from tasks.shards import Execution, TooManyFailures

EXPECTED = (
    RecipeError,
    StoreError,
    TooManyFailures,
    ValueError,
    FileNotFoundError,
    ConnectionError,
    OSError,
    RuntimeError,
)
"""Errors whose message tells the user what to do."""


def explain(error: BaseException) -> str | None:
    """The message of an error that a user can mend; None for a fault of the program."""
    return str(error) if isinstance(error, EXPECTED) and str(error) else None


def show_keys(kind: type[Spec]) -> None:
    """Print every key of a recipe with its choices, default and meaning."""
    schema = kind.model_json_schema()
    for key, value, default, meaning in _rows(schema, schema.get("$defs", {}), ""):
        print("  ".join(filter(None, (key, value, default and f"[{default}]"))))
        if meaning:
            print(f"    {meaning}")


def describe_plan(recipe: Spec, execution: Execution) -> None:
    """Print the full recipe, and what a pipeline would do; other stages say where their result would lie."""
    for name, spec in (("recipe", recipe), ("execution", execution)):
        print(yaml.safe_dump({name: spec.model_dump(mode="json")}, sort_keys=False), end="")
    if not isinstance(recipe, PipelineRecipe):
        print(f"# digest {recipe.digest()}, results under {execution.workspace}")
        return
    for study in recipe.studies:
        for line in _study_lines(study):
            print(f"# {line}")


def _study_lines(study: Study) -> list[str]:
    lines = [f"study {study.name}: {study.simulation.measurement.kind} at {study.ingest.image.size} pixels"]
    for choice in study.reconstructions:
        calls = choice.method.n_calls * choice.n_samples
        lines.append(f"  {choice.method.kind}: {choice.n_samples} samples, {calls} network calls a slice")
    return lines


def _rows(schema: dict[str, Any], defs: dict[str, Any], prefix: str) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, field in schema.get("properties", {}).items():
        target = _resolve(field, defs)
        key = f"{prefix}{name}"
        members = "discriminator" in target
        meaning = str(field.get("description") or target.get("description", "").split("\n")[0])
        rows.append((key, _value(target, defs), _short(field.get("default")), meaning))
        if members:
            for kind, ref in target["discriminator"]["mapping"].items():
                member = defs[ref.rsplit("/", 1)[-1]]
                rows.append((f"{key}.kind={kind}", "", "", member.get("description", "").split("\n")[0]))
                rows += [r for r in _rows(member, defs, f"{key}.") if r[0] != f"{key}.kind"]
        elif "properties" in target:
            rows += _rows(target, defs, f"{key}.")
        elif target.get("type") == "array" and "properties" in _resolve(target.get("items", {}), defs):
            rows += _rows(_resolve(target["items"], defs), defs, f"{key}.0.")
    return rows


def _resolve(field: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in field.get("anyOf", ()) if option.get("type") != "null"]
    inner = options[0] if len(options) == 1 else field
    return defs[inner["$ref"].rsplit("/", 1)[-1]] if "$ref" in inner else inner


def _value(target: dict[str, Any], defs: dict[str, Any]) -> str:
    if "enum" in target:
        return " | ".join(map(str, target["enum"]))
    if "const" in target:
        return str(target["const"])
    if "discriminator" in target:
        return "one of the kinds below"
    bounds = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}
    limits = [f"{sign} {target[name]}" for sign, name in bounds.items() if name in target]
    kind = "" if "properties" in target else str(target.get("type", "value"))
    return ", ".join(part for part in [kind, *limits] if part)


def _short(default: Any) -> str:
    return "" if default is None or isinstance(default, dict | list) else str(default)
