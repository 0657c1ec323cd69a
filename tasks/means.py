"""Means over slices that no single slice can spoil.

An exact image has an infinite PSNR, an empty truth has no NMSE. Such slices are left out of the mean of that metric,
for all methods alike, so that means can be compared; tables say how many these are.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
"""The scores of one slice by one method: its identity, and its metrics, None or missing where it has none."""


class Mean(NamedTuple):
    """Over ``n`` slices; the deviation of one slice is 0, the mean of none is NaN."""

    mean: float
    deviation: float
    n: int


def left_out(rows: Sequence[Row], metric: str) -> frozenset[str]:
    """The slice_ids that do not count: where a method with finite values elsewhere has an infinite or undefined one.

    A method without any finite value takes no slice from the others.
    """
    methods: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        if row.get(metric) is not None:
            methods.setdefault((row.get("reconstruction"), row.get("estimate")), []).append(row)
    sets = [[row for row in group if not math.isfinite(float(row[metric]))] for group in methods.values()]
    groups = zip(sets, methods.values(), strict=True)
    return frozenset(str(row.get("slice_id")) for odd, group in groups if len(odd) < len(group) for row in odd)


def mean_of(rows: Sequence[Row], metric: str, out: Collection[str] = ()) -> Mean:
    """Over the slices that have the metric and are not left out; infinite if all of them are."""
    values = [float(row[metric]) for row in rows if row.get(metric) is not None and str(row.get("slice_id")) not in out]
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return Mean(statistics.fmean(finite), statistics.stdev(finite) if len(finite) > 1 else 0.0, len(finite))
    infinite = [value for value in values if math.isinf(value)]
    return Mean(infinite[0], 0.0, len(infinite)) if len(set(infinite)) == 1 else Mean(math.nan, math.nan, 0)
