"""Methods compared over people: one mean per person, intervals over people, the gain over the best baseline, and its p.

    python -m benchmarks.people workspace/scores/DIGEST [workspace/scores/DIGEST ...] --metric psnr

The scores are those of `scoreinv evaluate`, or of the studies of a pipeline; people of several are put together, where
methods of one kind and number of calls are the same method. A baseline is what has no prior; the best is that with the
best mean over people. Baselines are to be tuned before, on other people. p is of a paired signed-rank test,
two-sided, by Holm's correction for all methods that are compared.
"""

import argparse
import statistics
from collections.abc import Collection, Sequence

from storage.scores import Cell, read_scores
from tasks.means import left_out
from tasks.people import Compared, OverPeople, compared, gains, means_of_people
from tasks.rendering.tables import metric_of

Method = tuple[str, str, int, str]
"""Kind, prior, network calls, estimate."""


def main() -> None:
    """Print the table of methods, then that of people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="+", help="folders of scores")
    parser.add_argument("--metric", default="psnr", help="a column of the scores (default: %(default)s)")
    options = parser.parse_args()
    people = people_of([read_scores(uri) for uri in options.scores], options.metric)
    print("\n".join([*table_of_methods(people, options.metric), "", *table_of_people(people)]))


def people_of(studies: list[list[dict[str, Cell]]], metric: str) -> dict[Method, dict[str, float]]:
    """Of each method, each person's mean."""
    found: dict[Method, dict[str, float]] = {}
    for rows in studies:
        out = left_out(rows, metric)
        for method in dict.fromkeys(map(method_of, rows)):
            mine = [row for row in rows if method_of(row) == method]
            found.setdefault(method, {}).update(means_of_people(mine, metric, out))
    return {method: means for method, means in found.items() if means}


def places_of_people(subjects: Sequence[str], wanted: Collection[str], n: int) -> list[int]:
    """The places of n slices of each person, or all if they have fewer; nobody wanted means everybody.

    Args:
        subjects: whom each slice is of.
        wanted: whose slices are taken.
        n: slices of a person, spread evenly over theirs.
    """
    people = [one for one in dict.fromkeys(subjects) if not wanted or one in wanted]
    theirs = ([i for i, subject in enumerate(subjects) if subject == person] for person in people)
    return sorted(i for one in theirs for i in spread_over(one, min(n, len(one))))


def spread_over(places: Sequence[int], n: int) -> list[int]:
    """n of the places, evenly."""
    return [places[(2 * i + 1) * len(places) // (2 * n)] for i in range(n)]


def mean_of_each(people: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Of each person the mean over their slices."""
    pairs = list(zip(people, values, strict=True))
    return {
        person: statistics.fmean(value for who, value in pairs if who == person) for person in dict.fromkeys(people)
    }


def method_of(row: dict[str, Cell]) -> Method:
    """What a row's image was made by."""
    return str(row["method"]), str(row["prior"] or ""), int(row["nfe"] or 0), str(row["estimate"])


def best_baseline(people: dict[Method, dict[str, float]], metric: str) -> Method:
    """Of the methods without a prior the best by its mean over people.

    Raises:
        ValueError: if all have a prior.
    """
    without = [method for method in people if not method[1]]
    if not without:
        raise ValueError("all methods have a prior: evaluate a baseline (kind tv or wavelet) together with them")
    return max(without, key=lambda method: merit(statistics.fmean(people[method].values()), metric))


def merit(value: float, metric: str) -> float:
    """More of it is better, whichever way the metric goes."""
    better = metric_of(metric).better
    return -value if better == "low" else -abs(value - 1) if better == "near 1" else value


def table_of_methods(people: dict[Method, dict[str, float]], metric: str) -> list[str]:
    """Mean, interval, gain over the best baseline with its interval and p, and the smallest gain of anybody."""
    baseline = best_baseline(people, metric)
    lines = [f"| method | calls | people | {metric} | gain over {baseline[0]} | p | least gain |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for method, one in compared(people, baseline).items():
        least = min(gains(people[method], people[baseline]).values(), key=lambda x: merit(x, metric), default=0.0)
        told = " | ".join(gain_of(one, least))
        lines.append(f"| {name_of(method)} | {method[2] or ''} | {one.mean.n} | {interval(one.mean)} | {told} |")
    return lines


def gain_of(one: Compared, least: float) -> tuple[str, str, str]:
    """Gain, p and least gain as they stand in the table; empty for the baseline itself."""
    return (interval(one.gain), f"{one.p:.2g}", f"{least:.2f}") if one.gain else ("", "", "")


def table_of_people(people: dict[Method, dict[str, float]]) -> list[str]:
    """One row per person, one column per method."""
    names = sorted({person for means in people.values() for person in means})
    lines = ["| person | " + " | ".join(map(name_of, people)) + " |", "| --- |" + " ---: |" * len(people)]
    for name in names:
        cells = [f"{means[name]:.2f}" if name in means else "" for means in people.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def name_of(method: Method) -> str:
    """Kind, prior and which image of it."""
    kind, prior, _, estimate = method
    return kind + (f", {prior}" if prior else "") + (", mean of samples" if estimate == "mean" else "")


def interval(one: OverPeople) -> str:
    """The mean, and its interval in brackets."""
    return f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]" if one.n > 1 else f"{one.mean:.2f}"


if __name__ == "__main__":
    main()
