"""What fine-tuning gives: a prior before and after, on people whom neither its training nor any choice has seen.

    python -m benchmarks.fine_tuning --slices 2 --data "head and neck" workspace/datasets/DIGEST \\
        --data chest workspace/datasets/DIGEST --prior "20 people" workspace/priors/DIGEST/prior

Of each data set (which holds finer images), for TV, for ct-128 and for every prior that was fine-tuned from it: PSNR of
CT from 23 views without noise, simulated on the finer grid, with the preset `balanced`; and the error of denoised
images, as the change against ct-128, under the same noise. One mean per person; intervals of 95 % over people
(``tasks.people``). What was measured is kept in --keep, so that priors are added to a table and a run that was stopped
goes on. Writes benchmarks/results/fine_tuning.md.
"""

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.people import interval, mean_of_each, places_of_people
from scoreinv.denoiser import Denoiser
from scoreinv.measurement import simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.spec import digest_of
from scoreinv.training.loss import denoising_curve
from storage.datasets import DatasetStore
from tasks.people import gains, over_people
from tasks.planning.presets import BASELINES, PRESETS
from tasks.workers.priors import load_prior

RESULTS = Path(__file__).parent / "results" / "fine_tuning.md"
BEFORE, TV = "ct-128", "TV"
SIGMAS = (0.03, 0.1, 0.3, 1.0)


class Slices(NamedTuple):
    """Slices (n, 1, size, size) of a data set, whose they are, and what is measured of them."""

    title: str
    people: list[str]
    names: list[str]
    images: Tensor
    problem: InverseProblem


class Found(NamedTuple):
    """Of one method or prior: each person's mean PSNR in dB, and error of denoised images at each of SIGMAS."""

    psnr: dict[str, float]
    errors: dict[str, list[float]]


def main() -> None:
    """Measure what is not kept yet, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs=2, action="append", required=True, metavar=("TITLE", "DATASET"))
    parser.add_argument("--prior", nargs=2, action="append", default=[], metavar=("TITLE", "PRIOR"))
    parser.add_argument("--slices", type=int, default=2, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=RESULTS.with_suffix(".jsonl"), help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="(default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["# Fine-tuning", "", f"`python -m benchmarks.fine_tuning`, slices of each person: {options.slices}.", ""]
    for title, uri in options.data:
        slices = read_slices(title, uri, options.slices)
        found = {
            name: kept(options.keep, slices, prior) for name, prior in [(TV, ""), (BEFORE, BEFORE), *options.prior]
        }
        lines += [*table(slices, found), ""]
    print("\n".join(lines))
    options.output.write_text("\n".join(lines))


def read_slices(title: str, uri: str, n_slices: int) -> Slices:
    """So many slices of each person, and their data."""
    store = DatasetStore.open(uri)
    places = places_of_people([record.subject_id for record in store.records], (), n_slices)
    images, fine = (torch.from_numpy(store.shards.read_places(n, places))[:, None] for n in ("images", "images_fine"))
    people, names = [store.records[i].subject_id for i in places], [store.records[i].slice_id for i in places]
    spec = SparseViewCT(n_views=23)
    problem = InverseProblem.of(spec, simulate(spec, fine, store.contract, Noise(0, names)), store.contract)
    return Slices(title, people, names, images, problem)


def kept(path: Path, slices: Slices, prior: str) -> Found:
    """From the file, or measured and added to it; a prior is known by its weights."""
    preset = PRESETS["ct"]["balanced"].method if prior else BASELINES["ct"].method
    denoiser, contract = load_prior(prior, "cpu", "float32") if prior else (None, None)
    key = digest_of(slices.names, preset.digest(), contract.sha256 if contract else "")
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else iter(())
    if known := next((line for line in lines if line["key"] == key), None):
        return Found(known["psnr"], known["errors"])
    found = measured(slices, preset, denoiser)
    with path.open("a") as file:
        file.write(json.dumps({"key": key, "data": slices.title, **found._asdict()}) + "\n")
    return found


@torch.no_grad()
def measured(slices: Slices, method: Method, denoiser: Denoiser | None) -> Found:
    """Reconstruct the slices, and denoise each person's."""
    x = reconstruct(method, slices.problem, denoiser, noise=Noise(0, slices.names)).x.clamp(0, 1)
    means = mean_of_each(slices.people, psnr(x, slices.images.clamp(0, 1), data_range=1.0).tolist())
    if denoiser is None:
        return Found(means, {})
    errors = dict[str, list[float]]()
    for person in dict.fromkeys(slices.people):
        mine = [i for i, one in enumerate(slices.people) if one == person]
        errors[person] = denoising_curve(denoiser, slices.images[mine], torch.tensor(SIGMAS)).tolist()
    return Found(means, errors)


def table(slices: Slices, found: dict[str, Found]) -> list[str]:
    """One row for TV, the prior before, and each prior after."""
    n, before = len(set(slices.people)), found[BEFORE]
    levels = [f"error at {sigma:g}" for sigma in SIGMAS]
    lines = [f"## {slices.title}: {n} people, {len(slices.people)} slices", ""]
    lines += [f"| | PSNR | gain over {BEFORE} | least gain | {' | '.join(levels)} |"]
    lines += ["| --- | ---: | ---: | ---: |" + " ---: |" * len(SIGMAS)]
    for name, one in found.items():
        cells = [interval(over_people(one.psnr)), "", "", *[""] * len(SIGMAS)]
        if name == BEFORE:
            cells[3:] = [f"{error:.4f}" for error in errors_of(one)]
        elif one.errors:
            cells[3:] = [f"{100 * change:+.1f} %" for change in changes(one, before)]
        if name != BEFORE:
            ahead = gains(one.psnr, before.psnr)
            cells[1:3] = [interval(over_people(ahead)), f"{min(ahead.values()):.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def errors_of(one: Found) -> list[float]:
    """The mean over people at each level."""
    return [statistics.fmean(level) for level in zip(*one.errors.values(), strict=True)]


def changes(after: Found, before: Found) -> Sequence[float]:
    """The mean over people of error / error before, geometric, minus 1."""
    ratios = [
        [math.log(mine / theirs) for mine, theirs in zip(after.errors[who], before.errors[who], strict=True)]
        for who in after.errors
    ]
    return [math.expm1(statistics.fmean(level)) for level in zip(*ratios, strict=True)]


if __name__ == "__main__":
    main()
