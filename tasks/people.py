"""Statistics over people: slices of one person are alike, so a person counts once, with the mean of their slices.

Intervals are bootstrapped over people (bias-corrected and accelerated; Efron 1987, doi 10.2307/2289144), and gains of
one method over another are taken person by person before that.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tasks.means import Row, mean_of

N_RESAMPLES = 9999


class OverPeople(NamedTuple):
    """The mean of people's means, and the interval that holds it with the given confidence (NaN of one person)."""

    mean: float
    low: float
    high: float
    n: int


def means_of_people(rows: Sequence[Row], metric: str, out: Collection[str] = ()) -> dict[str, float]:
    """Of each person the mean over their slices, without those that are left out; who has none is not in it.

    Args:
        rows: the scores of one method.
        metric: one that they have.
        out: slice_ids that do not count (``tasks.means.left_out``).
    """
    people: dict[str, list[Row]] = {}
    for row in rows:
        people.setdefault(str(row["subject_id"]), []).append(row)
    means = {person: mean_of(mine, metric, out) for person, mine in people.items()}
    return {person: one.mean for person, one in means.items() if one.n}


def over_people(means: Mapping[str, float], *, confidence: float = 0.95) -> OverPeople:
    """Mean and interval of one number for each person; the same for the same numbers.

    Raises:
        ValueError: if there is nobody.
    """
    values = list(means.values())
    if not values:
        raise ValueError("nobody is left to take a mean over: give the scores of at least one person")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return OverPeople(mean, math.nan, math.nan, 1)
    if len(set(values)) == 1:
        return OverPeople(mean, mean, mean, len(values))
    from scipy.stats import bootstrap  # a second, which a command may not need

    found = bootstrap(
        (np.array(values),), np.mean, confidence_level=confidence, n_resamples=N_RESAMPLES, rng=np.random.default_rng(0)
    ).confidence_interval
    return OverPeople(mean, float(found.low), float(found.high), len(values))


def gains(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """How far one method is ahead of another, for each person whom both have."""
    return {person: value - theirs[person] for person, value in ours.items() if person in theirs}
