"""Metal in CT: what is left of its artefacts, in Hounsfield units outside of it, after every method.

    python -m benchmarks.metal workspace/datasets/DIGEST                     6 slices, 180 views, preset balanced
    python -m benchmarks.metal workspace/datasets/DIGEST --views 60 --also "{kind: projection, grid: {n_levels: 200}}"

Slices of different people, spread over a data set of people whom the prior has not seen; into each is put metal of one
kind after the other (``MetalCT``): X-rays of 120 kV, photons' noise, from the finer images if the data set has them.
The methods know the data alone, and find the metal in them. Errors are means over the body (above -900 HU in the truth)
outside the metal. Writes results/metal.md and docs/metal.png, which shows a slice of each kind.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from benchmarks.people import places_of_people, spread_over
from benchmarks.samplers import read_method
from scoreinv.baselines import NMAR, Direct, LinearInterpolation
from scoreinv.contract import ImageContract
from scoreinv.denoiser import Denoiser
from scoreinv.measurement import Measured, PoissonNoise, simulate
from scoreinv.noise import Noise
from scoreinv.operators.inserts import KINDS, Inserts
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.phantoms import exact_sinogram
from scoreinv.problem import InverseProblem, Method, reconstruct
from storage.datasets import DatasetStore
from tasks.planning.presets import BASELINES, PRESETS
from tasks.workers.priors import load_prior

RESULTS = Path(__file__).parent / "results" / "metal.md"
BODY_HU = -900.0
WINDOW_HU = (-250.0, 350.0)
LEAST_LENGTH = 0.1
"""Pixel sides of metal from which on a ray belongs to the true trace."""


class Case(NamedTuple):
    """One slice with metal in it: its name, images (1, 1, height, width), and what was measured."""

    name: str
    kind: str
    truth: Tensor
    inserts: Inserts
    spec: MetalCT
    measured: Measured
    without_metal: Measured


class Outcome(NamedTuple):
    """The image of a method, and its errors in HU."""

    x: Tensor
    mean_error: float
    rms_error: float
    without_metal: float
    """The mean error of the same method on data of the slice without metal."""


def main() -> None:
    """Measure, write the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="URI of a data set")
    parser.add_argument("--prior", default="ct-256")
    parser.add_argument("--slices", type=int, default=6)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--photons", type=float, default=1e6)
    parser.add_argument("--also", nargs="*", default=[], help="further methods: kinds, or options as YAML")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=Path("docs/metal.png"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = DatasetStore.open(options.dataset)
    methods = {
        "FBP, uncorrected": Direct(),
        "LI": LinearInterpolation(),
        "NMAR": NMAR(),
        "TV": BASELINES["ct"].method,
        "score-based": PRESETS["ct"]["balanced"].method,
        **{text: read_method(text) for text in options.also},
    }
    cases = cases_of(store, options)
    denoiser, _ = load_prior(options.prior, "cpu", "float32")
    outcomes = [outcomes_of(case, methods, store.contract, denoiser) for case in cases]
    text = report(cases, outcomes, store.contract, options)
    print(text)
    options.output.write_text(text)
    draw(cases, outcomes, store.contract, options.picture)


def cases_of(store: DatasetStore, options: argparse.Namespace) -> list[Case]:
    """Slices spread over people, with one kind of metal after the other."""
    places = spread_over(places_of_people([one.subject_id for one in store.records], [], 1), options.slices)
    truth, fine = (
        torch.from_numpy(store.shards.read_places(name, places))[:, None]
        for name in ("images", "images_fine" if store.fine_factor > 1 else "images")
    )
    cases = []
    for i, place in enumerate(places):
        kind, name = tuple(KINDS)[i % len(KINDS)], store.records[place].slice_id
        spec = MetalCT(n_views=options.views, metal=kind, noise=PoissonNoise(n_photons=options.photons))
        given = (fine[i : i + 1], store.contract, Noise(0, [name]))
        (inserts,) = spec.inserts(*given)
        without = simulate(spec.model_copy(update={"metal": "none"}), *given)
        cases.append(Case(name, kind, truth[i : i + 1], inserts, spec, simulate(spec, *given), without))
    return cases


@torch.no_grad()
def outcomes_of(
    case: Case, methods: dict[str, Method], contract: ImageContract, denoiser: Denoiser
) -> dict[str, Outcome]:
    """What every method makes of a slice."""
    found = {}
    for label, method in methods.items():

        def image(measured: Measured, method: Method = method) -> Tensor:
            problem = InverseProblem.of(case.spec, measured, contract)
            return reconstruct(method, problem, denoiser, noise=Noise(0, [case.name])).x

        x = image(case.measured)
        found[label] = Outcome(
            x, *errors_of(x, case, contract), errors_of(image(case.without_metal), case, contract)[0]
        )
        print(f"{case.kind:9} {label:20}", *(f"{value:7.1f}" for value in found[label][1:]), flush=True)
    return found


def errors_of(x: Tensor, case: Case, contract: ImageContract) -> tuple[float, float]:
    """Mean absolute and root mean square error in HU, over the body outside the metal."""
    body = (in_hu(case.truth, contract) > BODY_HU) & ~case.measured.context["metal"]
    errors = ((x - case.truth) * (contract.high - contract.low))[body]
    return float(errors.abs().mean()), float(errors.square().mean().sqrt())


def in_hu(x: Tensor, contract: ImageContract) -> Tensor:
    """Images in Hounsfield units."""
    return contract.low + x * (contract.high - contract.low)


def trace_shares(case: Case, contract: ImageContract) -> tuple[float, float, float]:
    """Of the true trace what is hidden and what counts for less; of all rays what is hidden. In percent."""
    geometry, seen = case.spec.geometry(contract.size), case.measured.context["seen"][0]
    lengths = torch.from_numpy(
        exact_sinogram(case.inserts.pieces, contract.size, geometry.angles, n_bins=geometry.n_bins)
    )
    of_metal = seen[lengths > LEAST_LENGTH]
    shares = (of_metal == 0, of_metal < 1, seen == 0)
    hidden, less, all_hidden = (100 * float(one.double().mean()) for one in shares)
    return hidden, less, all_hidden


def report(
    cases: Sequence[Case],
    outcomes: Sequence[dict[str, Outcome]],
    contract: ImageContract,
    options: argparse.Namespace,
) -> str:
    """Markdown: one line for each method, and what was put into each slice."""
    kinds = [case.kind.replace("_", " ") for case in cases]
    lines = [
        f"# Metal in CT: {options.views} views, {options.photons:g} photons a ray, {len(cases)} slices",
        "",
        f"`python -m benchmarks.metal`, prior {options.prior}. Errors in HU over the body outside the metal: means",
        "over the slices, then those of each slice. Without metal: the same method on data of the slice without it.",
        "",
        "| method | mean error | without metal | root mean square | " + " | ".join(kinds) + " |",
        "| --- |" + " ---: |" * (len(cases) + 3),
    ]
    for label in outcomes[0]:
        mine = [one[label] for one in outcomes]
        mean, rms, without = (sum(values) / len(mine) for values in zip(*(one[1:] for one in mine), strict=True))
        values = (mean, without, rms, *(one.mean_error for one in mine))
        lines.append(f"| {label} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    lines += ["", "The trace that was found in the data, in percent:", ""]
    lines += ["| slice | metal | of true rays hidden | hidden or half-hidden | of all rays hidden |"]
    lines += ["| --- | --- | ---: | ---: | ---: |"]
    for case in cases:
        what = f"{len(case.inserts.pieces)} {case.kind}, {case.inserts.material}".replace("_", " ")
        shares = " | ".join(f"{share:.1f}" for share in trace_shares(case, contract))
        lines.append(f"| {case.name[-12:]} | {what} | {shares} |")
    return "\n".join([*lines, ""])


def draw(cases: Sequence[Case], outcomes: Sequence[dict[str, Outcome]], contract: ImageContract, picture: Path) -> None:
    """A row for a slice of each kind, a column for the truth and every method, around the metal, which is orange."""
    places = [next(i for i, case in enumerate(cases) if case.kind == kind) for kind in {one.kind: 0 for one in cases}]
    n_columns = 1 + len(outcomes[0])
    figure, axes = plt.subplots(len(places), n_columns, figsize=(2.6 * n_columns, 2.8 * len(places)), squeeze=False)
    for row, place in zip(axes, places, strict=True):
        case, metal = cases[place], cases[place].measured.context["metal"][0, 0]
        heading = f"{case.kind}, {case.inserts.material}".replace("_", " ")
        shown = [
            (heading, case.truth),
            *((f"{n}: {one.mean_error:.0f} HU", one.x) for n, one in outcomes[place].items()),
        ]
        for axis, (title, x) in zip(row, shown, strict=True):
            axis.imshow(coloured(in_hu(x[0, 0], contract), metal)[around(metal)])
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(picture, dpi=55)
    plt.close(figure)


def coloured(hu: Tensor, metal: Tensor) -> Tensor:
    """Grey values (height, width, 3) of the window, with metal in orange."""
    low, high = WINDOW_HU
    grey = ((hu - low) / (high - low)).clamp(0, 1)[..., None].expand(-1, -1, 3)
    return torch.where(metal[..., None], torch.tensor([1.0, 0.6, 0.1]), grey)


def around(metal: Tensor) -> tuple[slice, slice]:
    """Rows and columns of a square, half of the image, around the middle of the metal."""
    half = len(metal) // 4
    middles = (int(one.double().mean()) for one in metal.nonzero(as_tuple=True))
    starts = [min(max(middle - half, 0), len(metal) - 2 * half) for middle in middles]
    return slice(starts[0], starts[0] + 2 * half), slice(starts[1], starts[1] + 2 * half)


if __name__ == "__main__":
    main()
