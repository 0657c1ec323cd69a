"""Spec: one frozen choice that a person can make.

The same object is the command's argument, the YAML recipe, the form in the Prefect UI, the address
of a result and the record in a store's metadata.
"""

import copy
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import ComputedFieldInfo, FieldInfo

MAX_SEED = 2**53 - 1
"""The largest whole number that forms (JavaScript) and JSON hold exactly."""

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


def label(name: str) -> str:
    """What forms call a field that has no title: "Number of samples" for n_samples."""
    words = name.replace("_", " ")
    return f"Number of {words[2:]}" if name.startswith("n_") else words[:1].upper() + words[1:]


def _label(name: str, _: FieldInfo | ComputedFieldInfo) -> str:
    return label(name)


def _words(kind: type) -> str:
    """What forms call a class of options: "Predictor Corrector" for PredictorCorrector."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__)


def _offer_choices(schema: Any) -> None:
    """Write unions as anyOf and without a default.

    The forms of Prefect show a switch for anyOf and nothing but JSON for oneOf or for a union in a union (a choice
    or none), and they mix the options of a default of one kind with those of another kind that was chosen. The first
    kind is the default.
    """
    if isinstance(schema, list):
        for item in schema:
            _offer_choices(item)
    elif isinstance(schema, dict):
        if isinstance(schema.get("oneOf"), list):
            schema["anyOf"] = schema.pop("oneOf")
        for value in schema.values():
            _offer_choices(value)
        if isinstance(members := schema.get("anyOf"), list):
            inner = [part for part in members if "anyOf" in part]
            schema.update({key: value for part in inner for key, value in part.items() if key == "discriminator"})
            schema["anyOf"] = [one for part in members for one in part.get("anyOf", [part])]


class Spec(BaseModel):
    """A frozen set of options; unknown names are refused, and numbers that are infinite or none.

    What follows from a spec lies under an address made of its digest, so two rules hold wherever the code changes:

    - A new option has the default that leads to what came out before. Options at their default are not in the digest,
      so results from before the option are found again.
    - Whoever changes what comes out of the same options, a default among them, raises ``version``. It is in the digest,
      so old and new results never share an address.
    """

    version: ClassVar[int] = 1
    """Of what the options lead to."""
    moved: ClassVar[Mapping[str, str]] = {}
    """Options that lie elsewhere now: old path -> new path, both within this spec, as {"training.levels":
    "objective.levels"}. Old recipes are read so, with a note. A new path that begins with "execution." is no longer
    in the recipe at all: the old option is left out, and the note says where to set it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        model_title_generator=_words,
        field_title_generator=_label,
        json_schema_extra=_offer_choices,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_old_options(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for old, new in cls.moved.items():
            given = _with_moved(given, old, new)
        return given

    def digest(self) -> str:
        """12 hexadecimal digits that depend on every option and version, here and in the specs within."""
        versions = {type(spec).__name__: spec.version for spec in _specs_in(self) if spec.version != 1}
        return digest_of(self.for_digest(), *([versions] if versions else []))

    def for_digest(self) -> dict[str, Json]:
        """The options that are not at their default, and of which kind it is, as JSON: what the digest is made of."""
        return {name: _chosen(value) for name, value in self if not _is_default(self, name)}


def holds_options(stored: Json, wanted: Json) -> bool:
    """Whether stored options are the wanted ones, but for those that came later and are missing within them."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        return stored.keys() <= wanted.keys() and all(holds_options(stored[key], wanted[key]) for key in stored)
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(holds_options, stored, wanted))
    return stored == wanted


def _with_moved(given: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The options with the value of one path in another place; the same ones where the old path is not given."""
    *folders, name = old.split(".")
    source: Any = given
    for folder in folders:
        source = source.get(folder) if isinstance(source, dict) else None
    if not isinstance(source, dict) or name not in source:
        return given
    given = copy.deepcopy(given)
    value = _inner(given, folders).pop(name)
    if not new.startswith("execution."):
        *folders, name = new.split(".")
        # Who gives both means the new one.
        _inner(given, folders).setdefault(name, value)
    note_moved(old, new)
    return given


def _inner(given: dict[str, Any], folders: list[str]) -> dict[str, Any]:
    for folder in folders:
        given = given.setdefault(folder, {})
    return given


@lru_cache(maxsize=1024)
def note_moved(old: str, new: str) -> None:
    """Say once that an option of an old recipe lies elsewhere now."""
    logging.getLogger("scoreinv").warning("%s of an earlier version is read as %s: change the recipe", old, new)


def _chosen(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.for_digest()
    if isinstance(value, dict):
        return {name: _chosen(item) for name, item in value.items()}
    return [_chosen(item) for item in value] if isinstance(value, tuple | list) else value


def _is_default(spec: Spec, name: str) -> bool:
    default = type(spec).model_fields[name].get_default(call_default_factory=True)
    return name != "kind" and bool(getattr(spec, name) == default)


def _specs_in(value: Any) -> Iterator[Spec]:
    """The specs within a value, and the value itself if it is one."""
    if isinstance(value, Spec):
        yield value
        value = [item for _, item in value]
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from _specs_in(item)


def digest_of(*parts: Json) -> str:
    """12 hexadecimal digits of the sha256 of the parts' canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
