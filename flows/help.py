"""What the command says to people: keys, plans, and errors."""

from typing import Any

import yaml

from flows.recipe_files import RecipeError
from scoreinv.spec import Spec
from storage.errors import StoreError
from tasks.recipes import PipelineRecipe, Study, TuneRecipe
from tasks.shards import Execution, TooManyFailures

EXPECTED = (
    RecipeError,
    StoreError,
    TooManyFailures,
    ValueError,
    FileNotFoundError,
    ConnectionError,
    MemoryError,
    OSError,
    RuntimeError,
)
"""Errors whose message tells the user what to do."""


def explain(error: BaseException) -> str | None:
    """The message of an error that a user can mend; None for a fault of the program."""
    return str(error) if isinstance(error, EXPECTED) and str(error) else None


def show_keys(kind: type[Spec], *, prefix: str = "") -> None:
    """Print every key of a recipe with its choices, default and meaning."""
    schema = kind.model_json_schema()
    for key, value, default, meaning in _rows(schema, schema.get("$defs", {}), prefix, {}):
        print("  ".join(filter(None, (key, value, default and f"[{default}]"))))
        if meaning:
            print(f"    {meaning}")


def describe_plan(recipe: Spec, execution: Execution) -> None:
    """Print the full recipe, and what a pipeline would do; other stages say where their result would lie."""
    for name, spec in (("recipe", recipe), ("execution", execution)):
        print(yaml.safe_dump({name: spec.model_dump(mode="json")}, sort_keys=False), end="")
    if isinstance(recipe, TuneRecipe):
        for line in _search_lines(recipe):
            print(f"# {line}")
    if not isinstance(recipe, PipelineRecipe):
        print(f"# digest {recipe.digest()}, results under {execution.workspace}")
        return
    for study in recipe.studies:
        for line in _study_lines(study):
            print(f"# {line}")


def _search_lines(recipe: TuneRecipe) -> list[str]:
    choice, n_images = recipe.reconstruction, recipe.n_trials * recipe.n_slices * recipe.reconstruction.n_samples
    lines = [f"{recipe.n_trials} trials of {choice.method.kind} on up to {recipe.n_slices} slices"]
    if calls := n_images * choice.method.n_calls:
        lines[0] += f": {calls} network calls, if all take as many as the method as given"
    for one in recipe.space():
        values = ", ".join(map(str, one.choices)) or f"{one.low:g} to {one.high:g}{' by factors' * one.is_log}"
        lines.append(f"  {one.key}: {values}")
    return lines


def _study_lines(study: Study) -> list[str]:
    images = f"at {study.ingest.image.size} pixels" if study.ingest else f"of {study.dataset}"
    lines = [f"study {study.name}: {study.simulation.measurement.kind} {images}"]
    for choice in study.reconstructions:
        calls = choice.method.n_calls * choice.n_samples
        lines.append(f"  {choice.method.kind}: {choice.n_samples} samples, {calls} network calls a slice")
    return lines


Cells = tuple[str, str, str, str]
"""Key, values, default, meaning."""


def _rows(schema: dict[str, Any], defs: dict[str, Any], prefix: str, defaults: dict[str, Any]) -> list[Cells]:
    """One row per key below a prefix; ``defaults`` are those of the field that holds these keys."""
    rows = []
    for name, field in schema.get("properties", {}).items():
        target = _resolve(field, defs)
        default = defaults.get(name, field.get("default"))
        meaning = str(field.get("description") or target.get("description", "").split("\n")[0])
        rows.append((f"{prefix}{name}", _value(target, defs), _short(default), meaning))
        rows += _rows_below(target, defs, f"{prefix}{name}", default if isinstance(default, dict) else {})
    return rows


def _rows_below(target: dict[str, Any], defs: dict[str, Any], key: str, defaults: dict[str, Any]) -> list[Cells]:
    if "discriminator" in target:
        kinds = target["discriminator"]["mapping"].items()
        members = [(kind, defs[ref.rsplit("/", 1)[-1]]) for kind, ref in kinds]
        return [row for kind, member in members for row in _rows_of_kind(kind, member, defs, key, defaults)]
    if "properties" in target:
        return _rows(target, defs, f"{key}.", defaults)
    items = _resolve(target.get("items", {}), defs)
    return _rows(items, defs, f"{key}.0.", {}) if target.get("type") == "array" and "properties" in items else []


def _rows_of_kind(
    kind: str, member: dict[str, Any], defs: dict[str, Any], key: str, defaults: dict[str, Any]
) -> list[Cells]:
    head = (f"{key}.kind={kind}", "", "", member.get("description", "").split("\n")[0])
    own = defaults if defaults.get("kind") == kind else {}
    return [head, *(row for row in _rows(member, defs, f"{key}.", own) if row[0] != f"{key}.kind")]


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
