"""How often calibrated intervals hold on other people, by class of values: the tables of docs/trust.md.

    python -m benchmarks.coverage workspace reconstructions/DIGEST

The reconstructions name a calibration (`scoreinv calibrate`) that was made on other people, and their true images are
known. Each person counts alike: the mean over people of the share of pixels whose truth lies within the half width, for
each class of the reconstruction's values, with a 95 % interval over people where all classes but the lowest are taken
together; and the mean half width of 90 % intervals in the unit of the modality. Then the same of the calibration's own
people, each left out in turn.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from scoreinv.calibration import Calibration, Estimate
from scoreinv.metrics.image import magnitude
from scoreinv.modality import MODALITIES, Modality
from scoreinv.problem import InverseProblem
from storage.datasets import DatasetStore
from storage.joined import open_store
from tasks.people import over_people
from tasks.rendering.tables import interval_text
from tasks.workers.calibrate import EXPECTED, estimate_of, load_calibration
from tasks.workers.stores import as_images, read_measured, simulation_of
from tasks.workspace import locate, locate_calibration

LEAST_PIXELS = 50
"""Of a person in a class, below which they say nothing of it."""


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("reconstructions", help="as reconstructions/0a1b2c3d4e5f")
    options = parser.parse_args()
    store = open_store(locate(options.workspace, options.reconstructions, "reconstructions"))
    named = str(store.attrs["recipe"]["reconstruction"].get("calibration", ""))
    calibration = load_calibration(locate_calibration(options.workspace, named))
    dataset = DatasetStore.open(locate(options.workspace, str(store.attrs["dataset"]), "datasets"))
    contract = dataset.contract
    truth = as_images(dataset.images(0, store.n), contract)
    images = as_images(store.read("mean" if "mean" in store.layouts else "sample", 0, store.n), contract)
    std = as_images(store.read("std", 0, store.n), contract) if "std" in store.layouts else None
    measurements = open_store(locate(options.workspace, str(store.attrs["recipe"]["measurements"]), "measurements"))
    data = read_measured(measurements, range(store.n))
    problem = InverseProblem.of(simulation_of(measurements).measurement, data, contract)
    records = store.records()
    told = [one for record in records for one in record[EXPECTED]] if all(EXPECTED in one for one in records) else None
    estimate = estimate_of(images, std, problem, contract, told)
    people = [record.subject_id for record in dataset.listing.slices]
    print("\n".join(table(calibration, estimate, truth, people, contract.modality)))
    print("\n".join(own_table(calibration, contract.modality)))


def table(
    calibration: Calibration, estimate: Estimate, truth: Tensor, people: Sequence[str], modality: Modality
) -> Iterator[str]:
    """One row for each class, and one for all but the lowest."""
    values = magnitude(estimate.images)
    errors = (values - magnitude(truth)).abs()
    classes = torch.bucketize(values.contiguous(), torch.tensor(calibration.bounds))
    widths = {level: calibration.half_width(estimate, level=level) for level in calibration.levels}
    span = calibration.image.high - calibration.image.low
    yield f"\n{len(set(people))} people, {len(truth)} slices\n"
    yield f"| class | {' | '.join(f'{level:.0%}' for level in calibration.levels)} | half width of 90 % | people |"
    yield "| --- |" + " ---: |" * (len(calibration.levels) + 2)
    names = class_names(modality)
    for name, mask in [*((name, classes == i) for i, name in enumerate(names)), ("all but the first", classes > 0)]:
        covered = {level: _of_people(errors <= one, mask, people) for level, one in widths.items()}
        if not covered[0.9]:
            continue
        wide = over_people(_of_people(widths[0.9] * span, mask, people))
        cells = [over_people(one) for one in covered.values()]
        texts = [f"{100 * one.mean:.1f}" for one in cells]
        if name == "all but the first":
            scaled = [one._replace(low=100 * one.low, high=100 * one.high) for one in cells]
            texts = [f"{text} {interval_text(one, 1)}".strip() for text, one in zip(texts, scaled, strict=True)]
        digits = 0 if span > 10 else 3
        yield f"| {name} | {' | '.join(texts)} | {wide.mean:.{digits}f} | {cells[0].n} |"


def own_table(calibration: Calibration, modality: Modality) -> Iterator[str]:
    """What the calibration says of its own people."""
    people = f"{calibration.n_people} people ({calibration.n_slices} slices)"
    yield f"\nThe calibration's own {people}, each left out in turn\n"
    yield f"| class | {' | '.join(f'{level:.0%}' for level in calibration.levels)} |"
    yield "| --- |" + " ---: |" * len(calibration.levels)
    for i, name in enumerate(class_names(modality)):
        shares = [row[i] for row in calibration.covered_by_class]
        yield f"| {name} | {' | '.join('' if x is None else f'{100 * x:.1f}' for x in shares)} |"
    yield f"| all but the first | {' | '.join(f'{100 * x:.1f}' for x in calibration.covered)} |"


def _of_people(values: Tensor, mask: Tensor, people: Sequence[str]) -> dict[str, float]:
    """Of each person the mean of values over the pixels of a mask, of all their slices; without who has few."""
    found = {}
    for person in dict.fromkeys(people):
        mine = torch.tensor(np.flatnonzero([one == person for one in people]))
        n = int(mask[mine].sum())
        if n >= LEAST_PIXELS:
            found[person] = float((values[mine].double() * mask[mine]).sum() / n)
    return found


def class_names(modality: Modality) -> list[str]:
    """Of the classes between the bounds: what they are called, or from where to where they go."""
    traits = MODALITIES[modality]
    edges = [-math.inf, *traits.bounds, math.inf]
    known = {(one.low, one.high): one.name for one in traits.classes}
    return [known.get(pair) or _range_text(*pair, traits.label) for pair in pairwise(edges)]


def _range_text(low: float, high: float, unit: str) -> str:
    if math.isinf(low):
        return f"below {high:g} {unit}".strip()
    return (f"above {low:g} {unit}" if math.isinf(high) else f"{low:g} to {high:g} {unit}").strip()


if __name__ == "__main__":
    main()
