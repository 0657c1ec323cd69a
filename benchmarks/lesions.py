"""The lesion test: nodules of known size and contrast are put into slices; which images and intervals keep them?

    python -m benchmarks.lesions workspace datasets/DIGEST --prior ct-256 --calibration calibrations/DIGEST

A disc is put into lung and into soft tissue of the finer images, in MRI into any tissue, where values around it are
even; the data are simulated with it, and without. The recovery of a method is the contrast in its image over that in
the truth (``structures``: the response of a difference of Gaussians of the disc's size), each less what is there
without the disc. Kept is a disc of at least half its contrast; vanished is one of less than a quarter. Told is one of
which a report would say that the data tell of it, were it not in the image at all; the first row, without a disc, has
false alarms. With a calibration, which has to be of the preset, an interval keeps a disc if it holds the truth's mean
over the disc, so that nobody who reads the interval can rule it out: the mean of half widths is taken as that mean's,
as if all its pixels were wrong together.

People count alike: shares and medians are of each person's discs first.
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks.options import changed
from benchmarks.people import mean_of_each
from benchmarks.settings import People, methods_of, read_people, settings_named
from scoreinv.calibration import Calibration
from scoreinv.contract import ImageContract
from scoreinv.denoiser import ScoreModel
from scoreinv.measurement import MeasurementSpec, simulate
from scoreinv.metrics.structures import Structures, response, small_structures, unexplained, within
from scoreinv.modality import MODALITIES, Modality
from scoreinv.noise import Noise
from scoreinv.phantoms import Ellipse, coverage
from scoreinv.problem import InverseProblem, Method, reconstruct
from tasks.people import over_people
from tasks.rendering.tables import interval_text
from tasks.workers.calibrate import estimate_of, load_calibration
from tasks.workers.priors import load_prior
from tasks.workspace import locate, locate_calibration

BATCH = 8
"""Images per network call."""

KEPT, VANISHED = 0.5, 0.25
"""Shares of the true contrast."""


class Lesion(NamedTuple):
    """A disc: where it is put (the tissue's values, and their deviation around it at most), its size, what it adds.

    All in the unit of the modality.
    """

    tissue: str
    low: float
    high: float
    even: float
    diameter_mm: float
    contrast: float

    def name(self, modality: Modality) -> str:
        """As a row of the table is called."""
        return f"{self.tissue}, {self.diameter_mm:g} mm, {self.contrast:+g} {MODALITIES[modality].label}".strip()


def _lesions(
    tissue: tuple[str, float, float, float], contrasts: Sequence[float], diameters: Sequence[float]
) -> tuple[Lesion, ...]:
    return tuple(Lesion(*tissue, diameter, contrast) for contrast in contrasts for diameter in diameters)


LESIONS: dict[Modality, tuple[Lesion, ...]] = {
    "ct": (
        *_lesions(("lung", -950.0, -700.0, 120.0), (800.0, 300.0), (6.0, 10.0, 15.0)),
        *_lesions(("soft tissue", -50.0, 150.0, 40.0), (60.0, -60.0), (6.0, 10.0, 15.0)),
    ),
    "mri": _lesions(("tissue", 0.2, 0.8, 0.05), (0.2, -0.2), (4.0, 6.0, 10.0)),
}
"""Solid nodules and ground glass in lung, lesions as in a liver; bright and dark spots as in white matter."""

SETTINGS: dict[Modality, str] = {"ct": "23 views", "mri": "8 times, paper's columns"}
"""Of benchmarks/settings.py, if no other one is named."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("datasets", nargs="+", help="with finer images, of one grid")
    parser.add_argument("--prior", required=True)
    parser.add_argument("--calibration", default="", help="of the preset's images")
    parser.add_argument("--subjects", nargs="*", default=[], help="of the data sets (default: everybody)")
    parser.add_argument("--slices", type=int, default=1, help="of each person, spread evenly (default: %(default)s)")
    parser.add_argument("--setting", help="of benchmarks/settings.py (default: 23 views, or 8 times)")
    parser.add_argument("--methods", nargs="*", default=["TV", "preset"], help="columns (default: TV preset)")
    parser.add_argument("--changes", nargs="*", default=[], help="of the preset: more columns (benchmarks/options.py)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    uris = [locate(options.workspace, one, "datasets") for one in options.datasets]
    people = read_people(uris, options.subjects, options.slices)
    denoiser, _ = load_prior(options.prior, "cpu", "bfloat16")
    named = options.calibration and locate_calibration(options.workspace, options.calibration)
    calibration = load_calibration(named) if named else None
    modality = people.contract.modality
    (setting,) = settings_named(modality, [options.setting or SETTINGS[modality]])
    known = methods_of(modality)
    chosen = {name: known[name] for name in options.methods}
    chosen |= {change: changed(known["preset"], change) for change in options.changes}
    for line in table(people, setting.measurement, chosen, denoiser, calibration):
        print(line, flush=True)


class Found(NamedTuple):
    """Of each slice that could hold a lesion: whom it is of, the recovery, whether data would tell of it, whether the
    interval holds its mean."""

    people: list[str]
    recovery: list[float]
    is_told: list[float]
    is_held: list[float]


def table(
    people: People,
    spec: MeasurementSpec,
    methods: dict[str, Method],
    denoiser: ScoreModel,
    calibration: Calibration | None,
) -> Iterator[str]:
    """One row for each lesion, for each method the median recovery and the shares that are kept and vanish."""
    columns = " | ".join(f"{name}: recovery | kept | vanished | told" for name in methods)
    yield f"| lesion | people | {columns} | interval holds |"
    yield "| --- |" + " ---: |" * (4 * len(methods) + 2)
    problem = problem_of(people, spec)
    plain = {name: images_of(problem, people, method, denoiser) for name, method in methods.items()}
    told = [share_text(people.people, told_of(one, problem, people.contract)) for one in plain.values()]
    yield f"| none | {len(set(people.people))} | {' | '.join(f' | | | {one}' for one in told)} | |"
    for lesion in LESIONS[people.contract.modality]:
        if not (given := planted(lesion, people, spec)):
            continue
        rows = {
            name: found(lesion, given, method, denoiser, plain[name], calibration if name == "preset" else None)
            for name, method in methods.items()
        }
        cells = [cell for row in rows.values() for cell in cells_of(row)]
        held = [share_text(row.people, row.is_held) for row in rows.values() if row.is_held]
        name = lesion.name(people.contract.modality)
        yield f"| {name} | {len(set(given.people.people))} | {' | '.join([*cells, *(held or [''])])} |"


def cells_of(row: Found) -> list[str]:
    """Median recovery with its interval over people, and the shares kept, vanished and told."""
    median = over_people({who: statistics.median(own(row, who)) for who in row.people})
    kept = share_text(row.people, [float(one >= KEPT) for one in row.recovery])
    vanished = share_text(row.people, [float(one < VANISHED) for one in row.recovery])
    return [
        f"{median.mean:.2f} {interval_text(median, 2)}".strip(),
        kept,
        vanished,
        share_text(row.people, row.is_told),
    ]


def own(row: Found, who: str) -> list[float]:
    """The recoveries of one person."""
    return [value for person, value in zip(row.people, row.recovery, strict=True) if person == who]


def share_text(people: Sequence[str], flags: Sequence[float]) -> str:
    """The mean over people of their shares."""
    return f"{100 * statistics.fmean(mean_of_each(people, flags).values()):.0f} %"


class Planted(NamedTuple):
    """The slices that have room for a lesion, with it."""

    chosen: list[int]
    people: People
    problem: InverseProblem
    truth: Tensor
    """With the lesion; the images of ``people`` are without."""
    disc: Tensor
    """The part of every pixel that it covers, (n, 1, size, size)."""
    places: list[tuple[int, int]]

    def mean(self, values: Tensor) -> Tensor:
        """Over each disc, (n,)."""
        return (values * self.disc).sum((1, 2, 3)) / self.disc.sum((1, 2, 3))

    def at(self, values: Tensor) -> Tensor:
        """In the middle of each disc, (n,)."""
        rows, columns = torch.tensor(self.places).unbind(1)
        return values[torch.arange(len(values)), 0, rows, columns]

    def is_held(self, images: Tensor, half_widths: Tensor) -> list[float]:
        """Of each slice 1 if the interval around its image holds the truth's mean over the disc."""
        return ((self.mean(images) - self.mean(self.truth)).abs() <= self.mean(half_widths)).float().tolist()


def planted(lesion: Lesion, people: People, spec: MeasurementSpec) -> Planted | None:
    """Some slices with a lesion, and their data; None if none has room for it."""
    contract, size = people.contract, people.fine.shape[-1]
    room = {i: place for i, image in enumerate(people.images) if (place := place_for(image[0], lesion, contract))}
    if not room:
        return None
    chosen, places = list(room), list(room.values())
    discs = torch.stack([disc(place, lesion, contract, size) for place in places])
    some = people.part(chosen)
    some = some._replace(fine=(some.fine + discs * lesion.contrast / (contract.high - contract.low)).clamp_min(0))
    truth, covered = (avg_pool2d(one, size // contract.size) for one in (some.fine, discs))
    return Planted(chosen, some, problem_of(some, spec), truth, covered, places)


def found(
    lesion: Lesion, given: Planted, method: Method, denoiser: ScoreModel, plain: Tensor, calibration: Calibration | None
) -> Found:
    """What becomes of a lesion, where ``plain`` are a method's images of everybody without it."""
    some, contract = given.people, given.people.contract
    sigma, without = structures_of(lesion, contract).sigma, plain[given.chosen]
    x = images_of(given.problem, some, method, denoiser)
    added, wanted = (given.at(response(a - b, sigma)) for a, b in ((x, without), (given.truth, some.images)))
    is_held: list[float] = []
    if calibration:
        is_held = given.is_held(x, calibration.half_width(estimate_of(x, None, given.problem, contract)))
    return Found(some.people, (added / wanted).tolist(), told_of(without, given.problem, contract), is_held)


def told_of(images: Tensor, problem: InverseProblem, contract: ImageContract) -> list[float]:
    """1 for each image that lacks a structure its data tell of, else 0."""
    small = small_structures(contract)
    return [] if small is None else (unexplained(images, problem, small) > 0).float().tolist()


def structures_of(lesion: Lesion, contract: ImageContract) -> Structures:
    """The scale at which it is looked for."""
    span, foreground = contract.high - contract.low, MODALITIES[contract.modality].foreground
    return Structures(
        lesion.diameter_mm / contract.pixel_mm, abs(lesion.contrast) / span, (foreground - contract.low) / span
    )


def place_for(image: Tensor, lesion: Lesion, contract: ImageContract) -> tuple[int, int] | None:
    """The middle of the evenest place (row, column) of the tissue, twice as wide as the disc; None if there is none."""
    span = contract.high - contract.low
    n = 2 * round(lesion.diameter_mm / contract.pixel_mm) + 1
    padded = image[None, None]
    mean, square = (avg_pool2d(one, n, stride=1, padding=n // 2) for one in (padded, padded.square()))
    std = (square - mean.square()).clamp_min(0).sqrt()
    low, high = ((value - contract.low) / span for value in (lesion.low, lesion.high))
    body = within(padded > (MODALITIES[contract.modality].foreground - contract.low) / span)
    fits = body & (mean >= low) & (mean <= high)
    value, index = std.masked_fill(~fits, torch.inf).flatten().min(0)
    if float(value) * span > lesion.even:
        return None
    return divmod(int(index), contract.size)


def disc(place: tuple[int, int], lesion: Lesion, contract: ImageContract, size: int) -> Tensor:
    """The part of every pixel of the finer image that it covers, (1, size, size)."""
    row, column = place
    radius = lesion.diameter_mm / (contract.size * contract.pixel_mm)
    x, y = ((2 * one + 1) / contract.size - 1 for one in (column, row))
    return torch.from_numpy(coverage(Ellipse(1.0, radius, radius, x, -y), size)).float()[None]


def problem_of(people: People, spec: MeasurementSpec) -> InverseProblem:
    """The data of the finer images."""
    return InverseProblem.of(
        spec, simulate(spec, people.fine, people.contract, Noise(0, people.names)), people.contract
    )


def images_of(problem: InverseProblem, people: People, method: Method, denoiser: ScoreModel) -> Tensor:
    """What a method makes of the data of some people, some of them at a time."""
    images = []
    with torch.no_grad():
        for places in torch.arange(len(people.names)).split(BATCH):
            noise = Noise(0, [people.names[i] for i in places.tolist()])
            images.append(reconstruct(method, problem.part(places), denoiser, noise=noise).x)
    return torch.cat(images)


if __name__ == "__main__":
    main()
