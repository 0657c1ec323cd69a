"""The tables of docs/benchmark.md: every method over the settings of a benchmark, and what the trained ones have cost.

    python -m benchmarks.comparison workspace scores/DIGEST scores/DIGEST ...

The scores are those of the studies of `scoreinv benchmark`, in the order of the columns. A cell is the mean of people's
means with its 95 % interval over people, in each metric; the best of a column is bold. Hours are those of the training
alone, on as many cores as it had.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from safetensors.torch import load as load_tensors

from scoreinv.contract import ReconstructorContract
from scoreinv.reconstructors import label_of
from storage.models import load
from storage.uri import join
from tasks.people import Compared
from tasks.rendering.tables import Metric, interval_text, metric_of, number
from tasks.study import Result, compared_in
from tasks.workers.training.curve import read_curve
from tasks.workspace import locate, locate_prior

METRICS = ("psnr", "psnr_volume", "ssim")


class Study(NamedTuple):
    """One measurement: its title, its results, and metric -> method -> its mean over people."""

    title: str
    results: Sequence[Result]
    compared: Mapping[str, Mapping[str, Compared]]


def main() -> None:
    """Print one table for each metric, then that of the trained models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("scores", nargs="+", help="references, as scores/0a1b2c3d4e5f")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), help="(default: %(default)s)")
    options = parser.parse_args()
    studies = [study_of(options.workspace, ref) for ref in options.scores]
    for metric in options.metrics:
        print("\n".join([f"\n{metric_of(metric).heading}\n", *table(studies, metric)]))
    head, rule, *trained = costs(options.workspace, studies[0].results)
    if trained:
        print("\n".join(["", head, rule, *trained]))


def study_of(workspace: str, ref: str) -> Study:
    """What a report says of the scores.

    Raises:
        ValueError: if they are of fewer than two people.
    """
    results, people = compared_in(workspace, locate(workspace, ref, "scores"))
    if people is None:
        raise ValueError(f"{ref} is of fewer than two people: there is nothing to take a mean over")
    return Study(results[0].measurement.title(), results, people.compared)


def table(studies: Sequence[Study], metric: str) -> Iterator[str]:
    """Methods as rows, studies as columns."""
    yield f"| method | {' | '.join(one.title for one in studies)} |"
    yield "| --- |" + " ---: |" * len(studies)
    for name in dict.fromkeys(name for one in studies for name in one.compared.get(metric, {})):
        yield f"| {name} | {' | '.join(_cell(one.compared[metric], name, metric_of(metric)) for one in studies)} |"


def _cell(compared: Mapping[str, Compared], name: str, metric: Metric) -> str:
    if name not in compared:
        return ""
    mean, means = compared[name].mean, [one.mean.mean for one in compared.values()]
    best = {"high": max(means), "low": min(means)}.get(metric.better)
    text = number(mean.mean, metric.digits)
    return f"{f'**{text}**' if mean.mean == best else text} {interval_text(mean, metric.digits)}".strip()


def costs(workspace: str, results: Sequence[Result]) -> Iterator[str]:
    """The trained reconstructors: parameters, images, hours."""
    yield "| network | parameters | images seen | hours |"
    yield "| --- | ---: | ---: | ---: |"
    for one in results:
        if isinstance(one.model, ReconstructorContract):
            weights, contract = load(locate_prior(workspace, one.reconstruction.prior))
            n = sum(tensor.numel() for tensor in load_tensors(weights).values())
            curve = read_curve(join(workspace, one.reconstruction.prior))
            hours = sum(row.seconds for row in curve) / 3600
            yield f"| {label_of(one.model)} | {n:,} | {contract.images_seen:,} | {hours:.1f} |"


if __name__ == "__main__":
    main()
