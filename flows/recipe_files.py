"""Recipes from YAML files and from key.path=value arguments; errors that name the key."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from flows.recipe_errors import RecipeError, path_within, recipe_error
from flows.yaml_text import MAX_CHARACTERS, Written, YamlError, read_scalar, read_yaml, require_readable
from scoreinv.shipped import recipes_folder
from scoreinv.spec import Spec
from storage.uri import is_local, local_path, read_range

RECIPES = recipes_folder()

RecipeFile = Path | str
"""A file of this machine, or any URI."""

EXECUTION = "execution"

SpecT = TypeVar("SpecT", bound=Spec)


def find_recipe(name: str) -> RecipeFile:
    """The file of a recipe given by its path or URI, or by the bare name of one that ships.

    Raises:
        RecipeError: if there is none on this machine; lists those that ship.
    """
    if not is_local(name):
        return name
    for path in (local_path(name), RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    shipped = ", ".join(shipped_recipes())
    raise RecipeError(f"there is no recipe {name!r}: give a YAML file, or one of {shipped}")


def shipped_recipes() -> list[str]:
    """The names of the recipes that ship, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(kind: type[SpecT], path: RecipeFile | None, changes: Sequence[str] = ()) -> SpecT:
    """A recipe from a file (or from its defaults) with changes such as ``studies.0.simulation.seed=1``.

    Raises:
        RecipeError: if the file is no YAML mapping, or a key or value is wrong.
        StoreError: if the file is not there or cannot be read.
    """
    content = _read(path) if path else {}
    # How a recipe is computed may stand in its file, but is no part of it.
    content.pop(EXECUTION, None)
    return _changed(kind, _defaults(kind) | content, changes, str(path or kind.__name__))


def holds(path: RecipeFile, key: str) -> bool:
    """Whether a recipe's file has this key at its top; errors as ``load_recipe``."""
    return key in _read(path)


def load_execution(default: SpecT, path: RecipeFile | None, changes: Sequence[str] = ()) -> SpecT:
    """An execution from its default, from what a recipe's file says under ``execution``, and changes.

    Raises:
        RecipeError: as ``load_recipe``.
    """
    section = _read(path).get(EXECUTION, {}) if path else {}
    if isinstance(section, Written) and section.value is None:
        section = {}  # all that stood below it is a comment now
    if not isinstance(section, dict):
        raise RecipeError(f"{path}: {EXECUTION} must hold a mapping of keys to values, got {_shown(section)}")
    where = f"{path}, {EXECUTION}" if section else type(default).__name__
    return _changed(type(default), default.model_dump(mode="json") | section, changes, where)


def _changed(kind: type[SpecT], content: dict[str, Any], changes: Sequence[str], where: str) -> SpecT:
    for key, value in _kinds_first(changes):
        _set(content, key.split("."), parse_value(key, value), key)
    while True:
        try:
            return kind.model_validate_json(json.dumps(content, default=_value))
        except ValidationError as error:
            if not _write_out(content, error):
                raise recipe_error(where, error, kind, content) from error


def _value(leaf: Written) -> bool | int | float | None:
    return leaf.value


def _write_out(content: Any, error: ValidationError) -> bool:
    """Where text was wanted, put what was written: a subject called 007, a folder called 1e3. Whether there was any."""
    found = False
    for item in error.errors(include_url=False, include_context=False):
        if item["type"] != "string_type":
            continue
        *above, last = path_within(content, item["loc"])
        owner = content
        for key in above:
            owner = owner[key]
        if isinstance(leaf := owner[last], Written) and leaf.text:
            owner[last], found = leaf.text, True
    return found


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


def _read(path: RecipeFile) -> dict[str, Any]:
    try:
        data = read_range(str(path), 0, 4 * MAX_CHARACTERS + 1)  # a character has at most 4 bytes
        content = read_yaml(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path} is not UTF-8 (line {line}): save it as UTF-8") from error
    except YamlError as error:
        raise RecipeError(f"{path}, {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} must hold a mapping of keys to values, got {_shown(content)}")
    return content


def _shown(content: Any) -> str:
    value = content.value if isinstance(content, Written) else content
    return "nothing" if value is None else "a list" if isinstance(value, list) else repr(value)[:60]


def parse_value(key: str, text: str) -> Any:
    """What a value on the command line means.

    Lists, mappings and quoted text are YAML. All else is one value, in which # and : mean themselves; where text is
    wanted it is text as it stands. So is what begins as a list or a mapping and is none.

    Raises:
        RecipeError: if it cannot be a value of a recipe.
    """
    try:
        if not text.startswith(("[", "{", '"', "'")):
            return read_scalar(text) if text else text
        require_readable(text)
    except YamlError as error:
        raise RecipeError(f"{key}: {error}") from error
    try:
        return read_yaml(text)
    except YamlError:
        return text


def _set(content: Any, keys: list[str], value: Any, path: str) -> None:
    for key in keys[:-1]:
        content = _step(content, key, path)
    last = keys[-1]
    if isinstance(content, list):
        content[_index(content, last, path)] = value
    elif not isinstance(content, dict):
        raise RecipeError(f"{path}: {last!r} lies under a value that has no keys")
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
    inner = content.setdefault(key, {})
    if isinstance(inner, Written) and inner.value is None:
        # "select:" with nothing behind it.
        inner = content[key] = {}
    return inner


def _index(content: list[Any], key: str, path: str) -> int:
    if not (key.isascii() and key.isdecimal()) or int(key) >= len(content):
        there = f"a number from 0 to {len(content) - 1}" if content else "no number, as the list is empty"
        raise RecipeError(f"{path}: {key!r} must be {there}")
    return int(key)
