"""Means over slices that no single slice can spoil.

An exact image has an infinite PSNR, an empty truth has no NMSE and is easy. Such slices are left out, for all methods
alike, so that means can be compared; tables say how many these are.
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
    """The slice_ids that do not count: of empty truths, and where a method's value is infinite or undefined.

    A method without any finite value takes no slice from the others, and if all truths are empty, all count.
    """
    methods = _grouped([row for row in rows if row.get(metric) is not None], "reconstruction", "estimate")
    odd = [[row for row in group if not math.isfinite(float(row[metric]))] for group in methods]
    counting = (few for few, group in zip(odd, methods, strict=True) if len(few) < len(group))
    return frozenset({str(row.get("slice_id")) for few in counting for row in few} | _empty(rows))


def _empty(rows: Sequence[Row]) -> set[str]:
    """The slices without truth: they have an NMSE by no method. A slice of air would lift every mean."""
    slices = _grouped([row for row in rows if row.get("nmse") is not None], "slice_id")
    empty = [group for group in slices if not any(math.isfinite(float(row["nmse"])) for row in group)]
    return {str(group[0].get("slice_id")) for group in empty} if len(empty) < len(slices) else set()


def _grouped(rows: Sequence[Row], *names: str) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return list(groups.values())


N_FAILURES_SHOWN = 3


def failure_text(failures: Mapping[str, str], n: int) -> str:
    """In words, of how many of n slices there is no image, and why; ``failures`` has the reasons by slice_id."""
    shown = "; ".join(f"{slice_id} ({reason})" for slice_id, reason in list(failures.items())[:N_FAILURES_SHOWN])
    more = f"; and {len(failures) - N_FAILURES_SHOWN} more" if len(failures) > N_FAILURES_SHOWN else ""
    return f"failed on {len(failures)} of {n} slices: {shown}{more}"


def mean_of(rows: Sequence[Row], metric: str, out: Collection[str] = ()) -> Mean:
    """Over the slices that have the metric and are not left out; infinite if all of them are."""
    values = [float(row[metric]) for row in rows if row.get(metric) is not None and str(row.get("slice_id")) not in out]
    finite = [value for value in values if math.isfinite(value)]
    if finite:
        return Mean(statistics.fmean(finite), statistics.stdev(finite) if len(finite) > 1 else 0.0, len(finite))
    infinite = [value for value in values if math.isinf(value)]
    return Mean(infinite[0], 0.0, len(infinite)) if len(set(infinite)) == 1 else Mean(math.nan, math.nan, 0)
