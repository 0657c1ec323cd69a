"""Statistics over people: slices of one person are alike, so a person counts once, with the mean of their slices.

Intervals are bootstrapped over people (bias-corrected and accelerated; Efron 1987, doi 10.2307/2289144), and gains of
one method over another are taken person by person before that; whether they are more than chance is asked of their
signs and ranks (Wilcoxon 1945, doi 10.2307/3001968), for several methods with Holm's correction (Holm 1979).
"""

import math
import statistics
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.means import Row, mean_of

N_RESAMPLES = 9999

N_FOR_BOOTSTRAP = 1000
"""People above which the interval is that of a normal mean: the bootstrap then gives the same, in seconds a number."""

N_EXACT = 50
"""People above which the signed-rank test takes the normal distribution."""

Method = TypeVar("Method", bound=Hashable)


class OverPeople(NamedTuple):
    """The mean of people's means, and the interval that holds it with the given confidence (NaN of one person)."""

    mean: float
    low: float
    high: float
    n: int


class Compared(NamedTuple):
    """One method over people, and its gain over the reference, of people whom both have.

    ``gain`` is None of the reference itself, and where there is nobody to compare; ``p`` is then NaN, else Holm's, of a
    two-sided signed-rank test.
    """

    mean: OverPeople
    gain: OverPeople | None
    p: float


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
    if len(values) > N_FOR_BOOTSTRAP:
        half = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * statistics.stdev(values) / math.sqrt(len(values))
        return OverPeople(mean, mean - half, mean + half, len(values))
    from scipy.stats import bootstrap  # a second, which a command may not need

    found = bootstrap(
        (np.array(values),), np.mean, confidence_level=confidence, n_resamples=N_RESAMPLES, rng=np.random.default_rng(0)
    ).confidence_interval
    return OverPeople(mean, float(found.low), float(found.high), len(values))


def gains(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """How far one method is ahead of another, for each person whom both have."""
    return {person: value - theirs[person] for person, value in ours.items() if person in theirs}


def compared(means: Mapping[Method, Mapping[str, float]], reference: Method | None) -> dict[Method, Compared]:
    """The table over people of one metric: every method that has somebody, against a reference.

    Args:
        means: of each method one number for each person.
        reference: one of the methods, or None: nothing is compared.

    Raises:
        ValueError: if the reference is none of the methods.
    """
    if reference is not None and reference not in means:
        raise ValueError(f"the reference {reference} is none of the methods: give one of {list(means)}")
    known = {method: one for method, one in means.items() if one}
    base = means[reference] if reference is not None else {}
    ahead = {method: gains(one, base) for method, one in known.items() if method != reference}
    # Two exact images differ by what is no number.
    ahead = {method: {who: x for who, x in one.items() if not math.isnan(x)} for method, one in ahead.items()}
    ahead = {method: one for method, one in ahead.items() if one}
    ps = dict(zip(ahead, holm([signed_rank_p(one) for one in ahead.values()]), strict=True))
    return {
        method: Compared(
            over_people(one), over_people(ahead[method]) if method in ahead else None, ps.get(method, math.nan)
        )
        for method, one in known.items()
    }


def signed_rank_p(gains: Mapping[str, float]) -> float:
    """The two-sided p of Wilcoxon's signed-rank test that gains of people lie around 0; those of 0 are left out.

    Exact for 50 people or fewer, also with ties. NaN of nobody. Five people or fewer never come below 0.05.
    """
    values = [value for value in gains.values() if value]
    if not gains:
        return math.nan
    if not values:
        return 1.0
    from scipy.stats import rankdata, wilcoxon

    if len(values) > N_EXACT:
        return float(wilcoxon(values, method="asymptotic").pvalue)
    ranks = np.rint(2 * rankdata(np.abs(values))).astype(int)  # tied ones have halves
    above = int(ranks[np.array(values) > 0].sum())
    chances = _chances_of_sums(ranks)
    return min(1.0, 2 * float(min(chances[: above + 1].sum(), chances[above:].sum())))


def _chances_of_sums(ranks: NDArray[np.int_]) -> NDArray[np.float64]:
    """How likely each sum is of ranks that are taken or not like the sides of a coin.

    What scipy's exact test does; with ties it draws permutations, for seconds.
    """
    chances = np.ones(1)
    for rank in ranks:
        chances = (np.pad(chances, (0, rank)) + np.pad(chances, (rank, 0))) / 2
    return chances


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of a family of tests, made larger so that one false finding in all is as rare as each p says."""
    n = sum(not math.isnan(p) for p in ps)
    corrected, least = [math.nan] * len(ps), 0.0
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (n - rank) * ps[i]))
        corrected[i] = least
    return corrected
