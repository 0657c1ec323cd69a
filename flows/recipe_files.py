"""Recipes from YAML files and from key.path=value arguments; errors that name the key."""

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from scoreinv.spec import Spec

RECIPES = Path(__file__).parents[1] / "deployments" / "recipes"

EXECUTION = "execution"

SpecT = TypeVar("SpecT", bound=Spec)


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names the file and the keys."""


def find_recipe(name: str) -> Path:
    """The file of a recipe given by its path, or by the bare name of one that ships.

    Raises:
        RecipeError: if there is none; lists those that ship.
    """
    for path in (Path(name), RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    raise RecipeError(f"there is no recipe {name!r}: give a YAML file, or one of {shipped}")


def load_recipe(kind: type[SpecT], path: Path | None, changes: Sequence[str] = ()) -> SpecT:
    """A recipe from a file (or from its defaults) with changes such as ``studies.0.simulation.seed=1``.

    Raises:
        RecipeError: if the file is no YAML mapping, or a key or value is wrong.
    """
    content = _read(path) if path else {}
    # How a recipe is computed may stand in its file, but is no part of it.
    content.pop(EXECUTION, None)
    return _changed(kind, _defaults(kind) | content, changes, str(path or kind.__name__))


def load_execution(default: SpecT, path: Path | None, changes: Sequence[str] = ()) -> SpecT:
    """An execution from its default, from what a recipe's file says under ``execution``, and changes.

    Raises:
        RecipeError: as ``load_recipe``.
    """
    section = _read(path).get(EXECUTION, {}) if path else {}
    if not isinstance(section, dict):
        raise RecipeError(f"{path}: {EXECUTION} must hold a mapping of keys to values, got {type(section).__name__}")
    where = f"{path}, {EXECUTION}" if section else type(default).__name__
    return _changed(type(default), default.model_dump(mode="json") | section, changes, where)


def _changed(kind: type[SpecT], content: dict[str, Any], changes: Sequence[str], where: str) -> SpecT:
    for key, value in _kinds_first(changes):
        _set(content, key.split("."), _parse(value), key)
    try:
        return kind.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "\n  ".join(_lines(error, kind))) from error


def _kinds_first(changes: Sequence[str]) -> list[tuple[str, str]]:
    """Keys and values as given, but a kind before the options under it, which it would clear."""
    ordered: list[tuple[str, str]] = []
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign or not key:
            raise RecipeError(f"{change!r} is not a change: write key.path=value")
        parent, _, last = f".{key}".rpartition(".")
        under = (i for i, (other, _) in enumerate(ordered) if f".{other}".startswith(f"{parent}."))
        ordered.insert(next(under, len(ordered)) if last == "kind" else len(ordered), (key, value))
    return ordered


def _defaults(kind: type[Spec]) -> dict[str, Any]:
    """So that ``cluster.n_workers=4`` need not say which kind of cluster the default is."""
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    return {name: value.model_dump(mode="json") for name, value in defaults.items() if isinstance(value, Spec)}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} must hold a mapping of keys to values, got {type(content).__name__}")
    return content


def _parse(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _set(content: Any, keys: list[str], value: Any, path: str) -> None:
    for key in keys[:-1]:
        content = _step(content, key, path)
    last = keys[-1]
    if isinstance(content, list):
        content[_index(content, last, path)] = value
    elif last == "kind" and content.get("kind") != value:
        # The options of another kind mean nothing to this one.
        content.clear()
        content["kind"] = value
    else:
        content[last] = value


def _step(content: Any, key: str, path: str) -> Any:
    if isinstance(content, list):
        return content[_index(content, key, path)]
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: {key!r} lies under a value that has no keys")
    return content.setdefault(key, {})


def _index(content: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(content):
        raise RecipeError(f"{path}: {key!r} must be a number from 0 to {len(content) - 1}")
    return int(key)


def _lines(error: ValidationError, kind: type[Spec]) -> Iterator[str]:
    names = _field_names(kind.model_json_schema())
    for item in error.errors():
        # A list whose items are wrong is also called too short.
        if item["type"] == "too_short" and item["input"]:
            continue
        key = ".".join(str(part) for part in item["loc"]) or "recipe"
        yield f"{key}: {_sentence(item, names)}"


def _sentence(item: ErrorDetails, names: set[str]) -> str:
    match item["type"]:
        case "extra_forbidden":
            return f"there is no such key{_suggestion(str(item['loc'][-1]), names)}".rstrip(".")
        case "missing":
            return "is missing"
        case "union_tag_invalid":
            kinds = {kind.strip(" '") for kind in item["ctx"]["expected_tags"].split(",")}
            tag = item["ctx"]["tag"]
            return f"there is no kind {tag!r}{_suggestion(tag, kinds)} Choose {', '.join(sorted(kinds))}"
        case "union_tag_not_found":
            return "kind is missing: --help lists the kinds there are"
    got = f" (got {item['input']!r})" if _is_short(item["input"]) else ""
    return item["msg"].removeprefix("Value error, ") + got


def _suggestion(name: str, names: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f", did you mean {close[0]!r}?" if close else "."


def _field_names(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_field_names, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())) | set().union(*map(_field_names, schema.values()))


def _is_short(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and len(str(value)) < 60
