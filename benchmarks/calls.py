"""How good every method is after how many network calls: a picture, a table, and the knee of each curve.

    python benchmarks/calls.py --precision bfloat16 --slices 2 \
        --study workspace/datasets/DIGEST ct-128 --study workspace/datasets/DIGEST mri-128
    python benchmarks/calls.py --precision bfloat16 --per-person 3 --subjects A B C --methods bregman dds dpir \
        --calls 10 20 50 --study workspace/datasets/DIGEST ct-128          (what few calls cost: results/few_calls.md)

The methods have the options of ``tasks/planning/presets.py`` and as many noise levels as the calls allow. Baselines,
which make none, are level lines. Data: 23 views or 8 times faster, noiseless, simulated from the finer images of a data
set that holds them, of slices of ``--subjects`` (people whom neither the priors nor the tuning have seen). Every point
is kept as one line of ``--keep``, so a comparison that was stopped goes on, and calls or methods are added to it, by
several processes if each has its own methods. A mean is over people, each with the mean of their slices, where
``--per-person`` says how many each has, and else over slices.
"""

import argparse
import hashlib
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from benchmarks.people import mean_of_each, places_of_people, spread_over
from scoreinv.contract import Modality
from scoreinv.denoiser import ScoreModel
from scoreinv.measurement import MeasurementSpec, simulate
from scoreinv.metrics.image import psnr, ssim
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, Method, reconstruct
from storage.datasets import DatasetStore
from tasks.planning.presets import COMPARED, OF_CALLS, PRESETS
from tasks.workers.priors import load_prior

CALLS = (10, 20, 50, 100, 200, 500, 1000, 2000)
MEASUREMENTS: dict[Modality, MeasurementSpec] = {
    "ct": SparseViewCT(n_views=23),
    "mri": CartesianMRI(acceleration=8),
}
KEPT = Path(__file__).parent / "results" / "calls.jsonl"
KNEE_DB = 0.2
"""The knee is the fewest calls whose PSNR is within so much of the best of the curve."""


class Study(NamedTuple):
    """Slices (n, 1, height, width) with their names, their problem, and the network that serves them."""

    modality: Modality
    names: list[str]
    groups: list[str]
    """Whom each slice is of where people count alike; else every slice is a group."""
    images: Tensor
    problem: InverseProblem
    denoiser: ScoreModel
    key: str
    """Of the slices, the weights and the precision: what was measured with others is not taken for this."""


class Point(NamedTuple):
    """A method's means over the slices after at most so many calls."""

    kind: str
    label: str
    calls: int
    psnr: float
    ssim: float
    seconds: float
    groups: Sequence[float] = ()
    """The PSNR of each person, or slice, that the mean is over."""


def main() -> None:
    """Measure what is not kept yet, write the picture and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", nargs=2, action="append", required=True, metavar=("DATASET", "PRIOR"))
    parser.add_argument("--subjects", nargs="*", default=[], help="of the data sets (default: everybody)")
    parser.add_argument("--slices", type=int, default=4, help="spread over the subjects' (default: %(default)s)")
    parser.add_argument("--per-person", type=int, help="slices of every subject, spread, in place of --slices")
    parser.add_argument("--calls", type=int, nargs="*", default=CALLS)
    parser.add_argument("--methods", nargs="*", default=[], help="kinds (default: all)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the networks")
    parser.add_argument("--keep", type=Path, default=KEPT, help="file for what is measured (default: %(default)s)")
    parser.add_argument("--kept-only", action="store_true", help="measure nothing more, show what is kept")
    parser.add_argument("--picture", type=Path, default=Path("docs/calls.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    studies = [read_study(uri, prior, options) for uri, prior in options.study]
    curves = {study.modality: list(measured(study, options)) for study in studies}
    draw(curves, options.picture)
    for modality, points in curves.items():
        print_table(modality, points)


def read_study(uri: str, prior: str, options: argparse.Namespace) -> Study:
    """Slices spread evenly over those of the subjects, or over those of each."""
    store = DatasetStore.open(uri)
    places = chosen_places([record.subject_id for record in store.records], options)
    names = [store.records[i].slice_id for i in places]
    groups = [store.records[i].subject_id for i in places] if options.per_person else names
    images = torch.from_numpy(store.shards.read_places("images", places))[:, None]
    fine = (
        torch.from_numpy(store.shards.read_places("images_fine", places))[:, None] if store.fine_factor > 1 else images
    )
    spec = MEASUREMENTS[store.contract.modality]
    problem = InverseProblem.of(spec, simulate(spec, fine, store.contract, Noise(0, names)), store.contract)
    denoiser, contract = load_prior(prior, "cpu", options.precision)
    about = [names, contract.sha256, options.precision, store.fine_factor, *(groups if options.per_person else [])]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:8]
    return Study(store.contract.modality, names, groups, images, problem, denoiser, key)


def chosen_places(subjects: list[str], options: argparse.Namespace) -> list[int]:
    """The places of the slices that are taken, of those whose subjects are given."""
    if not options.per_person:
        wanted = [i for i, subject in enumerate(subjects) if not options.subjects or subject in options.subjects]
        return spread_over(wanted, options.slices)
    return places_of_people(subjects, options.subjects, options.per_person)


def measured(study: Study, options: argparse.Namespace) -> Iterator[Point]:
    """The points of all curves, from the file or by reconstruction."""
    known = read_kept(options.keep)
    for method in COMPARED[study.modality]:
        kind = method.kind
        if options.methods and kind not in options.methods:
            continue
        for calls in options.calls if method.needs != "nothing" else [0]:
            chosen = with_calls(method, calls, study.modality) if calls else method
            if chosen is not None and (found := kept(known, study, chosen, calls, options)):
                yield found


def with_calls(method: Method, calls: int, modality: Modality) -> Method | None:
    """The method with as many noise levels as the calls allow; None if they allow no level."""
    if method == PRESETS[modality]["balanced"].method:
        return OF_CALLS[modality](calls)
    grid = dict(method)["grid"]
    per_level = method.n_calls / grid.n_levels
    for n_levels in range(int(calls / per_level) + 1, 0, -1):
        chosen = method.model_copy(update={"grid": grid.model_copy(update={"n_levels": n_levels})})
        if chosen.n_calls <= calls:
            return chosen
    return None


def read_kept(path: Path) -> dict[tuple[str, str, int], Point]:
    """What was measured before, by study, method's digest and calls."""
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else []
    return {(line.pop("study"), line.pop("method"), line["calls"]): Point(**line) for line in lines}


def kept(
    known: dict[tuple[str, str, int], Point], study: Study, method: Method, calls: int, options: argparse.Namespace
) -> Point | None:
    """A point from the file, or measured and added to it unless only kept ones are wanted."""
    name = f"{study.modality}-{study.key}"
    found = known.get((name, method.digest(), calls))
    if found is None and not options.kept_only:
        found = point(study, method.kind, method, calls)
        line = json.dumps({"study": name, "method": method.digest(), **found._asdict()})
        options.keep.parent.mkdir(parents=True, exist_ok=True)
        with options.keep.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)
    return found


@torch.no_grad()
def point(study: Study, kind: str, method: Method, calls: int) -> Point:
    """Reconstruct the slices together and compare them with the truth."""
    start = time.perf_counter()
    x = reconstruct(method, study.problem, study.denoiser, noise=Noise(0, study.names)).x.clamp(0, 1)
    truth = study.images.clamp(0, 1)
    each = [mean_of_each(study.groups, metric(x, truth, data_range=1.0).tolist()) for metric in (psnr, ssim)]
    means = [statistics.fmean(one.values()) for one in each]
    return Point(
        kind,
        method.label,
        calls,
        *means,
        seconds=time.perf_counter() - start,
        groups=[each[0][name] for name in sorted(each[0])],
    )


def draw(curves: dict[Modality, list[Point]], path: Path) -> None:
    """PSNR above and SSIM below, one column per modality, the knees as open circles."""
    figure, axes = plt.subplots(2, len(curves), figsize=(6 * len(curves), 8), squeeze=False, sharex=True)
    for column, (modality, points) in zip(axes.T, curves.items(), strict=True):
        for ax, name in zip(column, ("psnr", "ssim"), strict=True):
            draw_curves(ax, points, name)
            ax.set(xscale="log", ylabel={"psnr": "PSNR in dB", "ssim": "SSIM"}[name])
        column[0].set_title({"ct": "CT, 23 views", "mri": "MRI, 8 times faster"}[modality])
        column[1].set_xlabel("network calls per image")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def draw_curves(ax: plt.Axes, points: list[Point], name: str) -> None:
    """One line per method; what is worse than the worst baseline lies below the frame."""
    for number, kind in enumerate(dict.fromkeys(point.kind for point in points)):
        curve = [point for point in points if point.kind == kind]
        values = [getattr(point, name) for point in curve]
        if curve[0].calls == 0:
            ax.axhline(values[0], color="0.4", ls=[":", "--", "-."][number % 3], lw=1, label=curve[0].label)
            continue
        style = "-" if number < 10 else "--"
        (line,) = ax.plot([point.calls for point in curve], values, f"{style}", marker=".", label=curve[0].label)
        knee = knee_of(curve)
        ax.plot(knee.calls, getattr(knee, name), "o", ms=10, mfc="none", color=line.get_color())
    levels = [getattr(point, name) for point in points if point.calls == 0]
    ax.set_ylim(bottom=min(levels) if levels else None)


def knee_of(curve: list[Point]) -> Point:
    """The fewest calls that come close to the best of a curve."""
    best = max(point.psnr for point in curve)
    return next(point for point in curve if point.psnr >= best - KNEE_DB)


def print_table(modality: Modality, points: list[Point]) -> None:
    """PSNR / SSIM by method and calls, in Markdown; the knee in bold."""
    calls = sorted({point.calls for point in points})
    by_kind = {kind: [p for p in points if p.kind == kind] for kind in dict.fromkeys(p.kind for p in points)}
    print(f"\n{modality}\n\n| method | knee | " + " | ".join(map(str, calls)) + " |")
    print("| --- | ---: |" + " ---: |" * len(calls))
    for curve in by_kind.values():
        knee, cells = knee_of(curve), {point.calls: f"{point.psnr:.2f} / {point.ssim:.3f}" for point in curve}
        print(f"| {curve[0].label} | {knee.calls} | " + " | ".join(cells.get(n, "") for n in calls) + " |")


if __name__ == "__main__":
    main()
