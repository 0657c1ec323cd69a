"""The methods of a study over its people: means, intervals, and gains over the best method that has no prior."""

from collections.abc import Collection, Mapping, Sequence

from tasks.means import Row, left_out
from tasks.people import compared, means_of_people, over_people
from tasks.rendering.content import People, SliceRow
from tasks.rendering.tables import METRICS

Names = Mapping[tuple[str, str], str]
"""What people call a method, by its reconstruction and estimate in the scores."""

LISTED = "psnr"


def people_of(
    rows: Sequence[Row], names: Names, *, classical: Collection[str], places: Mapping[str, str]
) -> People | None:
    """The table over people of every metric; None of fewer than two people, and where nobody knows the truth.

    Args:
        rows: the scores.
        names: of the methods, in the order of the table.
        classical: those without a prior, of whom the best is the reference; empty: nothing is compared.
        places: where each slice lies, by its slice_id.
    """
    means = {metric: means_by_method(rows, names, metric) for metric in METRICS}
    means = {metric: one for metric, one in means.items() if any(one.values())}
    if len({person for one in means.get(LISTED, {}).values() for person in one}) < 2:
        return None
    known = [name for name in names.values() if name in classical and means[LISTED][name]]
    reference = max(known, key=lambda name: over_people(means[LISTED][name]).mean, default="")
    tables = {metric: compared(one, reference if one.get(reference) else None) for metric, one in means.items()}
    return People(reference, tables, means, LISTED, _slices(rows, names, places))


def means_by_method(rows: Sequence[Row], names: Names, metric: str) -> dict[str, dict[str, float]]:
    """Of each method each person's mean of a metric; ``tasks.people.compared`` makes the table of it.

    Slices that do not count (``tasks.means.left_out``) count for no method.
    """
    out = left_out(rows, metric)
    groups: dict[tuple[str, str], list[Row]] = {method: [] for method in names}
    for row in rows:
        if (method := _method_of(row)) in groups:
            groups[method].append(row)
    return {name: means_of_people(groups[method], metric, out) for method, name in names.items()}


def _method_of(row: Row) -> tuple[str, str]:
    return str(row["reconstruction"]), str(row["estimate"])


def _slices(rows: Sequence[Row], names: Names, places: Mapping[str, str]) -> list[SliceRow]:
    """Person by person, in the order of the scores."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        name = names.get(_method_of(row))
        if name and row.get(LISTED) is not None:
            found.setdefault((str(row["subject_id"]), str(row["slice_id"])), {})[name] = float(row[LISTED])
    return [SliceRow(person, places.get(slice_id, slice_id), values) for (person, slice_id), values in found.items()]
