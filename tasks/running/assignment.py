"""Options that are pairs, as lists of NAME=value: forms show lists of texts, and no mappings."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

Assignment = Annotated[str, Field(pattern=r"^[^=\s]+=.*$")]
"""A text NAME=value."""


def pairs(assignments: Iterable[str]) -> dict[str, str]:
    """The values by their names."""
    return dict(assignment.split("=", 1) for assignment in assignments)
