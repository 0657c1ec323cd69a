"""Methods over settings: the sections of a report that differ in one number of their measurement, side by side."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from scoreinv.contract import ReconstructorContract
from scoreinv.spec import Spec
from tasks.rendering.content import Across, Curve, People

METRIC = "psnr"

WORDS = {"n_views": "number of views", "acceleration": "times faster", "arc_degrees": "degrees of the arc"}
"""What the numbers of measurements are called on an axis."""


class Setting(NamedTuple):
    """One section of a report: its data set, what was simulated, its methods over people, and the networks it used.

    ``needs`` says by a method's name what it has learned from.
    """

    dataset: str
    simulation: Spec
    people: People | None
    needs: Mapping[str, str]
    networks: Sequence[ReconstructorContract] = ()


def across(settings: Sequence[Setting]) -> Across | None:
    """The largest group of settings that differ in one number alone; None if there is no such pair.

    Those of fewer than two people have no intervals and are left out.
    """
    known = [one for one in settings if one.people is not None and METRIC in one.people.compared]
    groups: dict[tuple[str, str, str], dict[float, Setting]] = {}
    for one in known:
        options = _flat(one.simulation)
        for key, value in options.items():
            if key.rpartition(".")[2] in WORDS:
                rest = json.dumps({name: other for name, other in options.items() if name != key}, sort_keys=True)
                groups.setdefault((key, one.dataset, rest), {})[float(value)] = one
    key, found = max(((key, group) for (key, _, _), group in groups.items()), key=_size, default=("", {}))
    return _drawn(key, found) if len(found) > 1 else None


def _size(group: tuple[str, Mapping[float, Setting]]) -> int:
    return len(group[1])


def _drawn(key: str, found: Mapping[float, Setting]) -> Across:
    values, option = sorted(found), key.rpartition(".")[2]
    needs = {name: one for value in values for name, one in found[value].needs.items()}
    tables = [people.compared[METRIC] for value in values if (people := found[value].people) is not None]
    curves = [
        Curve(name, one, [table[name].mean if name in table else None for table in tables])
        for name, one in needs.items()
        if any(name in table for table in tables)
    ]
    trained = {float(str(net.measurement.get(option, "nan"))) for value in values for net in found[value].networks}
    return Across(WORDS[option], values, METRIC, curves, next(iter(trained)) if len(trained) == 1 else None)


def _flat(spec: Spec) -> dict[str, Any]:
    content = spec.model_dump(mode="json")
    return {**{k: v for k, v in content.items() if k != "measurement"}, **_prefixed(content.get("measurement", {}))}


def _prefixed(measurement: Mapping[str, Any]) -> dict[str, Any]:
    return {f"measurement.{key}": value for key, value in measurement.items()}
