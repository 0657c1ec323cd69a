"""People as rows that a page sorts and unfolds without a script: each row knows its place in every order."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tasks.people import gains
from tasks.rendering.boxes import boxes_png
from tasks.rendering.content import People
from tasks.rendering.tables import MINUS, metric_of, number, people_cells, signed

N_SHOWN, N_SLICES_SHOWN = 100, 100
"""People on a page, those who fare worst, and slices of one of them; the files beside it have all."""


class PersonRow(NamedTuple):
    """One person: texts of the columns after the name, where the row stands when sorted by the name or by one of these,
    and the same texts for each slice by its name."""

    name: str
    texts: Sequence[str]
    ranks: Sequence[int]
    slices: Sequence[tuple[str, Sequence[str]]]


class PersonList(NamedTuple):
    """``heads`` are of the columns after the name; ``n_more`` people are not among the rows."""

    heads: Sequence[str]
    rows: Sequence[PersonRow]
    n_more: int


def person_list(people: People) -> PersonList:
    """One column for each method, and the gain of the best over the reference: who loses by it is on top."""
    columns, is_low = _columns(people), metric_of(people.listed).better == "low"

    def order(column: Mapping[str, float]) -> list[str]:
        """From the worst."""
        return sorted(
            people.names, key=lambda name: -column.get(name, -math.inf) if is_low else column.get(name, math.inf)
        )

    names = sorted(order(list(columns.values())[-1])[:N_SHOWN])
    orders = [names, *(order(column) for column in columns.values())]
    rows = [
        PersonRow(name, _texts(people, columns, name), [one.index(name) for one in orders], _slices(people, name))
        for name in names
    ]
    return PersonList(list(columns), rows, len(people.names) - len(names))


def _columns(people: People) -> dict[str, Mapping[str, float]]:
    """By their headings, what each person has."""
    means, best = people.means[people.listed], _best(people)
    columns = {method: means[method] for method in people.compared[people.listed]}
    if not people.reference or best in ("", people.reference):
        return columns
    return columns | {f"{best} {MINUS} {people.reference}": gains(means[best], means[people.reference])}


def _best(people: People) -> str:
    found = people_cells(people.compared[people.listed], people.listed)
    return next((method for method, cell in found.items() if cell.is_best), "")


def _texts(people: People, columns: Mapping[str, Mapping[str, float]], name: str) -> list[str]:
    methods, digits = people.compared[people.listed], metric_of(people.listed).digits
    return [
        (number if head in methods else signed)(column[name], digits) if name in column else "n/a"
        for head, column in columns.items()
    ]


def _slices(people: People, person: str) -> list[tuple[str, list[str]]]:
    """Of each slice its name, and the listed metric of every method."""
    mine = [one for one in people.slices if one.person == person][:N_SLICES_SHOWN]
    digits, methods = metric_of(people.listed).digits, people.compared[people.listed]
    return [(one.name, [number(one.values.get(method, math.nan), digits) for method in methods]) for one in mine]


def boxes(people: People, names: Sequence[str]) -> list[tuple[str, bytes]]:
    """A box plot of each metric, with its heading; of what is finite."""
    found = []
    for name in names:
        label = metric_of(name).heading
        values = {method: [x for x in one.values() if math.isfinite(x)] for method, one in people.means[name].items()}
        if known := {method: one for method, one in values.items() if one}:
            found.append((label, boxes_png(known, label)))
    return found
