"""Tables of scores: one row per slice (and method, and sample), as CSV for people and JSON for programs.

Columns: those of ``IDENTITY`` that occur, in that order, then all others by name. A value that a row
does not have is an empty cell (None). JSON has no infinite numbers, so these are stored as strings.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence

from scoreinv.spec import Json
from storage.errors import StoreError, StoreNotFound
from storage.uri import join, json_bytes, read_json, write_if_other

IDENTITY = ("slice", "slice_id", "volume_id", "subject_id", "method", "sample")
"""What a row is about; these columns come first."""

Cell = None | bool | int | float | str

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def write_scores(uri: str, rows: Sequence[Mapping[str, Cell]]) -> None:
    """Puts scores.csv, then scores.json, into a folder; what holds these rows already is left as it is."""
    for name, content in score_files(rows).items():
        write_if_other(join(uri, name), content)


def score_files(rows: Sequence[Mapping[str, Cell]]) -> dict[str, bytes]:
    """The content of the files of a table, by their names."""
    columns = columns_of(rows)
    table = [[row.get(column) for column in columns] for row in rows]
    as_json: dict[str, Json] = {"columns": columns, "rows": [[_to_json(c) for c in row] for row in table]}
    return {"scores.csv": _csv(columns, table), "scores.json": json_bytes(as_json)}


def read_scores(uri: str) -> list[dict[str, Cell]]:
    """The rows, in the order they were written, with every column in each.

    Raises:
        StoreNotFound: if there is no table.
        StoreError: if it is damaged.
    """
    try:
        table = read_json(join(uri, "scores.json"))
        return [
            {name: _from_json(cell) for name, cell in zip(table["columns"], row, strict=True)} for row in table["rows"]
        ]
    except StoreNotFound:
        raise
    except (StoreError, KeyError, TypeError, ValueError) as error:
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
