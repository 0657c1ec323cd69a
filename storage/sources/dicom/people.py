"""Whose files are whose: one person is one subject, whatever a sloppy export wrote into PatientID.

DICOM says that a study is of one person. So files of a study without a PatientID belong to the person whose study it
is, and different PatientIDs within a study are one person, unless the files say otherwise: by sex, date of birth or
name, or by bearing the same slices twice in one series, as when a de-identification gave two people the same UIDs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from storage.sources.dicom.header import Header

_Node = tuple[str, str, str]
"""Study, PatientID, and the series where there is no PatientID: files that surely are one person's."""


class Person(NamedTuple):
    """A subject of the source."""

    subject_id: str
    """The PatientID, the most frequent one of several, or the study's UID where there is none."""
    names: frozenset[str]
    """Everything that a list of subjects may call this person."""
    notes: tuple[str, ...]
    """What is odd about the PatientIDs, without naming them."""


def people(headers: Sequence[Header]) -> list[Person]:
    """The person of each header."""
    studies = _studies(headers)
    nodes = [_node(header, study) for header, study in zip(headers, studies, strict=True)]
    files = _grouped(nodes, headers)
    parent = {node: node for node in files}
    named = [node for node in files if node[1]]
    _join(parent, _grouped([name for _, name, _ in named], named).values())
    for beside in _grouped([study for study, _, _ in files], files).values():
        with_id, without = [node for node in beside if node[1]], [node for node in beside if not node[1]]
        _join(parent, (pair for pair in combinations(with_id, 2) if _are_one(files[pair[0]], files[pair[1]])))
        _join(parent, [[node, *_owners(node, with_id, files, parent)] for node in without])
        _join(parent, [[node for node in without if not _root(parent, node)[1]]])
    for alike in _grouped([_name_and_birth(theirs) for theirs in files.values()], files).values():
        _join(parent, [_namesakes(alike, files, parent)])
    roots = [_root(parent, node) for node in nodes]
    found = {root: _person(theirs) for root, theirs in _grouped(roots, zip(headers, studies, strict=True)).items()}
    return [found[root] for root in roots]


def _studies(headers: Sequence[Header]) -> list[str]:
    """The study of each header; the one that others of its series name, or the series, where it names none."""
    of_series = {header.series_uid: header.study_uid for header in headers if header.study_uid}
    return [header.study_uid or of_series.get(header.series_uid, header.series_uid) for header in headers]


def _node(header: Header, study: str) -> _Node:
    name = header.person.patient_id
    return study, name, "" if name else header.series_uid


def _owners(
    node: _Node, named: list[_Node], files: dict[_Node, list[Header]], parent: dict[_Node, _Node]
) -> list[_Node]:
    """Whose the files without a PatientID are: the person of their series, else of their study, if it is just one."""
    beside = [other for other in named if any(header.series_uid == node[2] for header in files[other])] or named
    return beside if len({_root(parent, other) for other in beside}) == 1 else []


def _name_and_birth(files: Sequence[Header]) -> tuple[frozenset[str], str]:
    person = files[0].person
    return person.name_words, person.birth_date


def _namesakes(alike: list[_Node], files: dict[_Node, list[Header]], parent: dict[_Node, _Node]) -> list[_Node]:
    """Of files with one name and date of birth, those that are one person: studies without a PatientID, and whose
    PatientID there is beside, if it is just one person's."""
    name, birth_date = _name_and_birth(files[alike[0]])
    if not name or not birth_date:
        return []
    without = [node for node in alike if not _root(parent, node)[1]]
    with_id = [node for node in alike if _root(parent, node)[1]]
    return without + with_id if len({_root(parent, node) for node in with_id}) == 1 else without


def _are_one(one: Sequence[Header], other: Sequence[Header]) -> bool:
    """Whether the files of two PatientIDs in one study are of one person."""
    facts: tuple[Callable[[Header], Iterable[str]], ...] = (
        lambda header: {header.person.sex},
        lambda header: {header.person.birth_date},
        lambda header: header.person.name_words,
    )
    for fact in facts:
        here, there = ({item for header in group for item in fact(header)} - {""} for group in (one, other))
        if here and there and here.isdisjoint(there):
            return False
    here, there = _places(one), _places(other)
    return 2 * len(here & there) < min(len(here), len(there))


def _places(headers: Sequence[Header]) -> set[Any]:
    """Where the slices lie, by series."""
    return {(h.series_uid, h.position_from, *(round(mm, 1) for mm in (h.location_mm, *h.corner_mm))) for h in headers}


def _person(files: Sequence[tuple[Header, str]]) -> Person:
    names = Counter(header.person.patient_id for header, _ in files)
    n_blank = names.pop("", 0)
    if not names:
        study = min(study for _, study in files)
        return Person(study, frozenset({study}), ("no PatientID: the study stands for the person",))
    notes = []
    if n_blank:
        notes.append(f"files of this person without a PatientID: {n_blank}; their study tells whose they are")
    if len(names) > 1:
        notes.append(f"PatientIDs of this person: {len(names)}; their study says that they are one")
    return Person(min(names, key=lambda name: (-names[name], name)), frozenset(names), tuple(notes))


def _grouped(keys: Iterable[Any], items: Iterable[Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, item in zip(keys, items, strict=True):
        groups.setdefault(key, []).append(item)
    return groups


def _root(parent: dict[_Node, _Node], node: _Node) -> _Node:
    while parent[node] != node:
        node = parent[node]
    return node


def _join(parent: dict[_Node, _Node], groups: Iterable[Sequence[_Node]]) -> None:
    """Makes each of the groups one person."""
    for group in groups:
        for node in group[1:]:
            one, other = _root(parent, group[0]), _root(parent, node)
            # Whoever has a PatientID stands for the person.
            first, second = (one, other) if one[1] or not other[1] else (other, one)
            parent[second] = first
