"""Spec: one frozen choice that a person can make.

The same object is the command's argument, the YAML recipe, the form in the Prefect UI, the address
of a result and the record in a store's metadata.
"""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


class Spec(BaseModel):
    """A frozen set of options; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def digest(self) -> str:
        """12 hexadecimal digits that depend on every option and on nothing else."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(*parts: Json) -> str:
    """12 hexadecimal digits of the sha256 of the parts' canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
