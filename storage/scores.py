"""Tables of scores: one row per slice (and method, and sample), as CSV for people, JSON and Parquet for programs.

Columns: those of ``IDENTITY`` that occur, in that order, then all others by name. A value that a row
does not have is an empty cell (None). JSON has no infinite numbers, so these are stored as strings.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

from scoreinv.spec import Json
from storage.errors import StoreError, StoreNotFound
from storage.joined import JoinedStore, open_store, part_of
from storage.shards import ShardedStore
from storage.uri import join, json_bytes, read_json, write_if_other

IDENTITY = ("slice", "slice_id", "volume_id", "subject_id", "method", "sample")
"""What a row is about; these columns come first."""

_MADE_FROM = ("reconstruction", "measurements")

Cell = None | bool | int | float | str

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def rows_of(scores: ShardedStore) -> list[dict[str, Cell]]:
    """The rows of all slices, from the records of the shards.

    Those of parts name the reconstructions and measurements of the parts; here they have the names of the wholes.

    Raises:
        StoreIncomplete: if a shard is not done.
    """
    names = _names_of_wholes(scores) if isinstance(scores, JoinedStore) else {}
    rows = (row for record in scores.records() for row in record["rows"])
    return [row | {column: names.get(row[column], row[column]) for column in _MADE_FROM} for row in rows]


def _names_of_wholes(scores: JoinedStore) -> dict[str, str]:
    """By the names of what the parts were made from, those of what the whole was made from."""
    workspace = scores.uri.rstrip("/").rsplit("/", 2)[0]
    names: dict[str, str] = {}
    for ref in scores.attrs["recipe"]["reconstructions"]:
        whole = open_store(join(workspace, ref))
        for part in (part_of(whole, number) for number in range(len(scores.parts))):
            names |= {part.name: whole.name, _measurements(part): _measurements(whole)}
    return names


def _measurements(reconstruction: ShardedStore) -> str:
    return str(reconstruction.attrs["recipe"]["measurements"]).rpartition("/")[2]


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


def writes_parquet() -> bool:
    """Whether this Python can: it needs pyarrow, the extra ``parquet`` of this package."""
    return find_spec("pyarrow") is not None


def parquet_bytes(rows: Sequence[Mapping[str, Cell]]) -> bytes:
    """The table as a Parquet file; other than in CSV, numbers are numbers, also those that are not finite.

    Raises:
        ModuleNotFoundError: unless ``writes_parquet``.
    """
    import pyarrow
    from pyarrow import parquet

    columns = {name: pyarrow.array([row.get(name) for row in rows]) for name in columns_of(rows)}
    file = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), file)
    return file.getvalue()


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
