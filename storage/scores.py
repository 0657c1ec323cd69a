"""Tables of scores: one row per slice (and method, and sample), as CSV for people and JSON for programs.

Columns: those of ``IDENTITY`` that occur, in that order, then all others by name. A value that a row
does not have is an empty cell (None). JSON has no infinite numbers, so these are stored as strings.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from storage.errors import StoreError
from storage.uri import join, read_json, write_bytes, write_json

IDENTITY = ("slice", "slice_id", "volume_id", "subject_id", "method", "sample")
"""What a row is about; these columns come first."""

Cell = None | bool | int | float | str

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_scores(uri: str, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Puts scores.csv, then scores.json, into a folder."""
    columns = columns_of(rows)
    table = [[row.get(column) for column in columns] for row in rows]
    write_bytes(join(uri, "scores.csv"), _csv(columns, table))
    write_json(join(uri, "scores.json"), {"columns": columns, "rows": [[_to_json(c) for c in row] for row in table]})


def read_scores(uri: str) -> list[dict[str, Cell]]:
    """The rows, in the order they were written, with every column in each.

    Raises:
        StoreNotFound: if there is no table.
        StoreError: if it is damaged.
    """
    table = read_json(join(uri, "scores.json"))
    try:
        return [
            {name: _from_json(cell) for name, cell in zip(table["columns"], row, strict=True)} for row in table["rows"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"the table of scores in {uri} is damaged ({error}): evaluate again") from error


def columns_of(rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """All columns of the rows in the documented order."""
    names = {name for row in rows for name in row}
    return [name for name in IDENTITY if name in names] + sorted(names.difference(IDENTITY))


def _csv(columns: Sequence[str], table: Sequence[Sequence[Cell]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(table)
    return text.getvalue().encode()


def _to_json(cell: Cell) -> Cell:
    if not isinstance(cell, float) or math.isfinite(cell):
        return cell
    return "NaN" if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"


def _from_json(cell: Cell) -> Cell:
    return _NOT_FINITE.get(cell, cell) if isinstance(cell, str) else cell
