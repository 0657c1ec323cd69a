"""Spec: one frozen choice that a person can make.

The same object is the command's argument, the YAML recipe, the form in the Prefect UI, the address
of a result and the record in a store's metadata.
"""

import hashlib
import json
import re
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.fields import ComputedFieldInfo, FieldInfo

MAX_SEED = 2**53 - 1
"""The largest whole number that forms (JavaScript) and JSON hold exactly."""

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


def _label(name: str, _: FieldInfo | ComputedFieldInfo) -> str:
    """What forms call a field that has no title: "Number of samples" for n_samples."""
    words = name.replace("_", " ")
    return f"Number of {words[2:]}" if name.startswith("n_") else words[:1].upper() + words[1:]


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
    """A frozen set of options; unknown names are refused, and numbers that are infinite or none."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        model_title_generator=_words,
        field_title_generator=_label,
        json_schema_extra=_offer_choices,
    )

    def digest(self) -> str:
        """12 hexadecimal digits that depend on every option and on nothing else."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(*parts: Json) -> str:
    """12 hexadecimal digits of the sha256 of the parts' canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
