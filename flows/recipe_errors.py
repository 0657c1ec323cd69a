"""What is wrong with a recipe, in words: the key, what was wanted, what came, and what to write instead."""

import difflib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from flows.keys import key_rows, keys_at
from flows.yaml_text import YamlError, read_yaml
from scoreinv.errors import UserError
from scoreinv.spec import Spec
from storage.uri import masked

SHOWN = 8
"""So many faults of a recipe are listed."""

WANTED = {
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "model_type": "must hold keys and values",
    "model_attributes_type": "must hold keys and values",
    "dict_type": "must hold keys and values",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
}
"""By pydantic's types of errors."""

Place = tuple[int | str, ...]


class RecipeError(UserError):
    """A recipe that cannot be used; the message names the file and the keys."""


def recipe_error(where: str, error: ValidationError, kind: type[Spec], content: Any) -> RecipeError:
    """One error for all that a validation found, from the content it was made of."""
    lines = list(islice(_lines(error, kind, content), SHOWN))
    more = [f"and {error.error_count() - SHOWN} more"] if error.error_count() > SHOWN else []
    return RecipeError(f"{where}: " + "\n  ".join([*lines, *more]))


def path_within(content: Any, loc: Place) -> Place:
    """The keys and indices of a place that pydantic names, without the kinds that it puts between."""
    keys: list[int | str] = []
    for part in loc:
        is_index = isinstance(content, list) and isinstance(part, int)
        if is_index or (isinstance(content, dict) and part in content):
            keys.append(part)
            content = content[part]
    return tuple(keys)


def _lines(error: ValidationError, kind: type[Spec], content: Any) -> Iterator[str]:
    for item in error.errors(include_url=False):
        # A list whose items are wrong is also called too short.
        if item["type"] == "too_short" and item["input"]:
            continue
        place = path_within(content, item["loc"]) + (item["loc"][-1:] if item["type"] == "missing" else ())
        key = ".".join(map(str, place))
        yield f"{key or 'recipe'}: {_sentence(item, key, kind)}"


def _sentence(item: ErrorDetails, key: str, kind: type[Spec]) -> str:
    match item["type"]:
        case "extra_forbidden":
            return f"there is no such key{_instead(str(item['loc'][-1]), item['loc'][:-1], kind)}"
        case "missing":
            return "is missing"
        case "too_short":
            return f"must hold {item['ctx']['min_length']} or more"
        case "union_tag_invalid":
            kinds = {kind.strip(" '") for kind in item["ctx"]["expected_tags"].split(",")}
            tag = item["ctx"]["tag"]
            return f"there is no kind {tag!r}{_suggestion(tag, kinds)} Choose {', '.join(sorted(kinds))}"
        case "union_tag_not_found":
            return "kind is missing: --help lists the kinds there are"
        case "literal_error":
            expected = item["ctx"]["expected"]
            close = _suggestion(str(item["input"]), set(re.findall("'([^']+)'", expected)))
            return f"must be {expected}{_got(item)}{close.rstrip('.')}"
    wanted = WANTED.get(item["type"]) or item["msg"].removeprefix("Value error, ")
    return f"{wanted}{_got(item)}{_example(item, key)}"


def _got(item: ErrorDetails) -> str:
    value = item["input"]
    is_short = isinstance(value, str | int | float | bool) and len(str(value)) < 60
    return " (got nothing)" if value is None else f" (got {masked(repr(value))})" if is_short else ""


def _example(item: ErrorDetails, key: str) -> str:
    """How to write a list or a mapping, and what is wrong with an attempt at one."""
    value, wanted, last = item["input"], WANTED.get(item["type"], ""), key.rpartition(".")[2]
    if wanted == "must be text" and isinstance(value, list | dict):
        return f""": put quotes around it, as in '{last}="[a]"'"""
    if wanted not in ("must be a list", "must hold keys and values"):
        return ""
    if isinstance(value, str) and value.startswith(("[", "{")):
        try:
            read_yaml(value)
        except YamlError as error:
            return f': {error}; text with , : # or brackets in it needs quotes, as in [a, "b #2"]'
    if wanted == "must be a list":
        inner = value if isinstance(value, str) and len(value) < 60 else "a, b"
        return f": write {last}=[{inner}] on the command line, {last}: [{inner}] in a file"
    return f": write {last}.key=value on the command line, {last}: {{key: value}} in a file"


def _instead(name: str, above: Place, kind: type[Spec]) -> str:
    """A key with nearly this name, in this place or in another one; or the keys of this place."""
    here = keys_at(above, kind.model_json_schema())
    if close := difflib.get_close_matches(name, here, n=1):
        return f", did you mean {close[0]!r}?"
    keys = dict.fromkeys(key for key, *_ in key_rows(kind) if "=" not in key)
    if close := difflib.get_close_matches(name, {key.rpartition(".")[2] for key in keys}, n=1):
        elsewhere = [repr(key) for key in keys if key.rpartition(".")[2] == close[0]]
        return f" here, did you mean {' or '.join(elsewhere[:3])}?"
    return f": there are {', '.join(here)}" if here else ""


def _suggestion(name: str, names: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f", did you mean {close[0]!r}?" if close else "."
