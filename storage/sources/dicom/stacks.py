"""Which slices are one volume: those of one patient, study, series, size, orientation, stack and contrast.

Directions, positions and the numbers of a contrast are compared with a tolerance: scanners round. Where positions
repeat after all, the first tags that tell the repetitions apart (acquisitions, phases, kernels, ...) make volumes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from scoreinv.modality import Modality
from storage.listing import Rejected
from storage.sources.dicom.header import Header

Plane = Literal["axial", "coronal", "sagittal", "oblique"]

SAME_DIRECTION = 0.02
"""Between the ends of directions of length 1: one degree."""

SAME_POSITION_MM = 0.01

SAME_NUMBER = {"EchoTime": 0.02, "InversionTime": 1.0, "FlipAngle": 0.5, "DiffusionBValue": 30.0}
"""Scanners round, and direct a b-value of 1000 as 995 to 1005; other tags must be equal."""

MIN_COSINE = 0.8
"""Of the angle between an axis of the body and the normal: heads are tilted by up to 30 degrees."""


class Stack(NamedTuple):
    """The slices of one volume, sorted by position."""

    volume_id: str
    slices: tuple[Header, ...]
    positions_mm: tuple[float, ...]
    """Along the normal."""
    plane: Plane | None
    """None where the orientation is not known."""


def stacks(headers: Sequence[Header], modality: Modality) -> tuple[list[Stack], list[Rejected]]:
    """All volumes, by subject and series, and the slices that fit into none, with the reason."""
    volumes: list[list[Header]] = []
    odd: list[Rejected] = []
    for series in _split(headers, [(h.subject_id, h.series_uid) for h in headers]):
        for study in _split(series, _studies(series)):
            usual, unusual = _usual_and_odd(_alike(study), modality)
            volumes += [part for group in usual for part in _told_apart(group)]
            odd += unusual
    of_series = Counter(part[0].series_uid for part in volumes)
    numbers = Counter[str]()
    found = []
    for part in volumes:
        uid = part[0].series_uid
        numbers[uid] += 1
        found.append(_stack(uid if of_series[uid] == 1 else f"{uid}#{numbers[uid]}", part))
    return found, odd


def plane_of(normal: np.ndarray) -> Plane:
    """The plane of slices with this normal, in the patient's axes (x to the left, y to the back, z to the head)."""
    axis = int(np.abs(normal).argmax())
    names: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return names[axis] if abs(normal[axis]) >= MIN_COSINE else "oblique"


def _stack(volume_id: str, part: Sequence[Header]) -> Stack:
    normal = _normal(part)
    slices = sorted(zip(_positions(part), part, strict=True), key=lambda pair: (pair[0], *_rank(pair[1])))
    plane = None if normal is None else plane_of(normal)
    return Stack(volume_id, tuple(header for _, header in slices), tuple(mm for mm, _ in slices), plane)


def _normal(part: Sequence[Header]) -> np.ndarray | None:
    """Of the first slice, in whatever order the files came; the others differ by less than a tolerance."""
    first = min(part, key=_rank).orientation
    if not first:
        return None
    normal = np.cross(first[:3], first[3:])
    return np.asarray(normal / np.linalg.norm(normal))


def _rank(header: Header) -> tuple[tuple[int, int], str]:
    return header.order, header.sop_uid


def _positions(part: Sequence[Header]) -> list[float]:
    normal = _normal(part)
    if normal is None or part[0].position_from != "ImagePositionPatient":
        return [header.location_mm for header in part]
    return [float(np.dot(normal, header.corner_mm)) for header in part]


def _split(headers: Sequence[Header], keys: Sequence[Any]) -> list[list[Header]]:
    """The headers by their keys, in the order of the keys."""
    groups: dict[Any, list[Header]] = {}
    for header, key in zip(headers, keys, strict=True):
        groups.setdefault(key, []).append(header)
    return [groups[key] for key in sorted(groups)]


def _studies(series: Sequence[Header]) -> list[str]:
    """The study of each; where one names none, that of the others if they agree."""
    named = {header.study_uid for header in series} - {""}
    return [header.study_uid or (min(named) if len(named) == 1 else "") for header in series]


def _alike(study: Sequence[Header]) -> list[list[Header]]:
    """Slices of one size, orientation and contrast, by contrast."""
    names = sorted({name for header in study for name in header.contrast})
    contrasts = [_labels([h.contrast.get(name) for h in study], SAME_NUMBER.get(name, 0.0)) for name in names]
    shapes, directions = [(h.position_from, h.shape) for h in study], _directions(study)
    return _split(study, list(zip(*contrasts, shapes, directions, strict=True)))


def _labels(values: Sequence[float | str | None], tolerance: float) -> list[int]:
    """The same number for values that differ by less than a tolerance; what says nothing belongs to the only others."""
    texts = sorted({value for value in values if isinstance(value, str)})
    found = sorted({value for value in values if isinstance(value, float)})
    steps = np.cumsum(np.diff(found, prepend=found[:1]) > tolerance)
    label: dict[float | str | None, int] = {value: int(step) for value, step in zip(found, steps, strict=True)}
    label |= {text: len(found) + i for i, text in enumerate(texts)}
    label[None] = max(label.values(), default=0) if len(set(label.values())) <= 1 else -1
    return [label[value] for value in values]


def _directions(study: Sequence[Header]) -> list[int]:
    """The same number for slices whose rows and columns point the same way, within the tolerance."""
    found: list[np.ndarray] = []
    label: dict[tuple[float, ...], int] = {(): -1}
    for header in sorted(study, key=_rank):
        if header.orientation not in label:
            here = np.reshape(header.orientation, (2, 3))
            near = (i for i, one in enumerate(found) if np.linalg.norm(one - here, axis=1).max() < SAME_DIRECTION)
            label[header.orientation] = next(near, len(found))
            found += [here] if label[header.orientation] == len(found) else []
    return [label[header.orientation] for header in study]


def _usual_and_odd(groups: list[list[Header]], modality: Modality) -> tuple[list[list[Header]], list[Rejected]]:
    """The groups that are volumes, and the slices that are not.

    A single slice beside more that are alike is odd. In CT also what lies in another plane: a scanner takes slices in
    one, so these are a localizer or were computed.
    """
    most = max(groups, key=len)
    usual, odd = [], list[Rejected]()
    for group in groups:
        reason = _difference(group, most, modality)
        if reason is None:
            usual.append(group)
        else:
            odd += [Rejected(file=header.file, reason=reason) for header in group]
    return usual, odd


def _difference(group: Sequence[Header], most: Sequence[Header], modality: Modality) -> str | None:
    here, usual = group[0], most[0]
    normal, usual_normal = _normal(group), _normal(most)
    if modality == "ct" and normal is not None:
        plane = plane_of(normal)
        if usual_normal is not None and plane != plane_of(usual_normal):
            return "its orientation is not that of most of its series (a localizer?)"
        if len(group) == 1 and plane in ("coronal", "sagittal"):
            return f"a single {plane} CT image: a localizer?"
    if group is most or len(group) > 1 or len(most) == 1:
        return None
    if here.shape != usual.shape:
        return f"{_by(here.shape)} pixels, but most of its series has {_by(usual.shape)}"
    if here.position_from != usual.position_from:
        return f"its position comes from {here.position_from}, most of its series has {usual.position_from}"
    for name in sorted({*here.contrast, *usual.contrast}):
        if here.contrast.get(name) != usual.contrast.get(name):
            return f"its {name} is {here.contrast.get(name)}, most of its series has {usual.contrast.get(name)}"
    return "its orientation is not that of most of its series (a localizer?)"


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _told_apart(part: list[Header]) -> list[list[Header]]:
    """The part, or where its positions repeat the parts that a tag makes of it, if it leaves fewer repetitions.

    Parts of single slices are no volumes: then the tag counts slices. With one position only, nothing is known.
    """
    n_before = _n_repeated(part)
    if n_before in (0, len(part) - 1):
        return [part]
    splits = [_split(part, keys) for keys in _repetition_keys(part)]
    splits = [parts for parts in splits if 1 < len(parts) <= len(part) // 2]
    best = min(splits, key=lambda parts: sum(map(_n_repeated, parts)), default=[part])
    if sum(map(_n_repeated, best)) == n_before:
        return [part]
    return [smaller for piece in best for smaller in _told_apart(piece)]


def _n_repeated(part: Sequence[Header]) -> int:
    return int((np.diff(np.sort(_positions(part))) < SAME_POSITION_MM).sum())


def _repetition_keys(part: Sequence[Header]) -> Iterator[list[Any]]:
    for name in part[0].repetition:
        yield [header.repetition[name] for header in part]
    if _normal(part) is not None and part[0].position_from == "ImagePositionPatient":
        # Two stacks side by side.
        rows, columns = np.reshape(part[0].orientation, (2, 3)) @ np.transpose([h.corner_mm for h in part])
        yield list(zip(_labels(list(map(float, rows)), 1.0), _labels(list(map(float, columns)), 1.0), strict=True))
