"""results.jsonl: what a run found, one line at a time, each with its part; and what became of each part.

A line is in the file before the next one is measured, and a line that was cut off is no line.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "results.jsonl"


def add_row(folder: Path, part: str, row: Mapping[str, Any]) -> None:
    """Put a line at the end."""
    with (folder / FILE).open("a") as file:
        file.write(json.dumps({"part": part, **row}) + "\n")


def rows_of(folder: Path, part: str = "") -> list[dict[str, Any]]:
    """The lines of a part, or of all, in the order in which they came."""
    path = folder / FILE
    # The last piece is empty, or what a process that was killed had begun.
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [row for row in map(json.loads, lines) if part in ("", row["part"])]
