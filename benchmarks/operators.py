"""Milliseconds per slice of CT projection, backprojection and FBP, beside scikit-image and ASTRA on the CPU.

    python benchmarks/operators.py

Everything runs in one process, and the competitors take turns within every repeat, so that a busy moment of
the machine hits all of them. ASTRA gets its projector, its algorithm and its linked arrays made beforehand;
only its run is timed. Matrices are built beforehand too. The peers take one slice at a time whatever the
batch, on one thread; ours takes the batch at once. Writes benchmarks/results/operators.md.
"""

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import astra
import numpy as np
import torch
from skimage.transform import iradon, radon

from scoreinv.operators.ct import CTOperator, SparseViewCT
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.phantoms import SHEPP_LOGAN, exact_sinogram, shepp_logan

Call = Callable[[], object]
Row = tuple[int, int, int, str, dict[str, float]]
"""Threads, views, batch, operation, milliseconds per slice of each competitor."""

OPERATIONS = ("forward", "adjoint", "FBP")
RESULTS = Path(__file__).parent / "results" / "operators.md"
SIZE = 256
GOAL = 10.0


def our_calls(operator: CTOperator, batch: int) -> dict[str, Call]:
    """Ours, for a whole batch."""
    x = torch.from_numpy(shepp_logan(SIZE)).expand(batch, 1, SIZE, SIZE).contiguous()
    y = operator.forward(x)
    return dict(
        zip(
            OPERATIONS,
            (lambda: operator.forward(x), lambda: operator.adjoint(y), lambda: operator.direct(y)),
            strict=True,
        )
    )


def skimage_calls(geometry: ParallelBeam) -> dict[str, Call]:
    """scikit-image, for one slice."""
    x, degrees = shepp_logan(SIZE), np.rad2deg(geometry.angles)
    y = radon(x, degrees, circle=False)
    return {
        "forward": lambda: radon(x, degrees, circle=False),
        "adjoint": lambda: iradon(y, degrees, output_size=SIZE, filter_name=None, circle=False),
        "FBP": lambda: iradon(y, degrees, output_size=SIZE, circle=False),
    }


def astra_calls(geometry: ParallelBeam, kind: str) -> dict[str, Call]:
    """ASTRA's CPU projector of a kind, for one slice; nothing but the run is left to do."""
    volume = astra.create_vol_geom(SIZE, SIZE)
    scan = astra.create_proj_geom("parallel", 1.0, geometry.n_bins, np.array(geometry.angles))
    projector = astra.create_projector(kind, scan, volume)
    image, sinogram = astra.data2d.create("-vol", volume, shepp_logan(SIZE)), astra.data2d.create("-sino", scan)
    result = astra.data2d.create("-vol", volume)
    runs = {}
    for operation, name in zip(OPERATIONS, ("FP", "BP", "FBP"), strict=True):
        options = astra.astra_dict(name)
        options |= {"ProjectorId": projector, "ProjectionDataId": sinogram}
        options |= {"VolumeDataId": image} if name == "FP" else {"ReconstructionDataId": result}
        runs[operation] = astra.algorithm.create(options)
    return {operation: lambda run=run: astra.algorithm.run(run) for operation, run in runs.items()}


def median_ms(calls: dict[str, Call], n_repeats: int) -> dict[str, float]:
    """Median milliseconds of each call; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(n_repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if repeat >= 2:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def rows(n_views: int, threads: list[int], n_repeats: int) -> Iterator[Row]:
    """All timings of one scan."""
    spec = SparseViewCT(n_views=n_views)
    operator, geometry = spec.operator(SIZE), spec.geometry(SIZE)
    peers = {
        "scikit-image": skimage_calls(geometry),
        "ASTRA linear": astra_calls(geometry, "linear"),
        "ASTRA line": astra_calls(geometry, "line"),
    }
    for n_threads in threads:
        torch.set_num_threads(n_threads)
        for batch in (1, 16):
            ours = our_calls(operator, batch)
            for operation in OPERATIONS:
                calls = {"scoreinv": ours[operation]} | {name: peer[operation] for name, peer in peers.items()}
                milliseconds = median_ms(calls, n_repeats)
                yield (
                    n_threads,
                    n_views,
                    batch,
                    operation,
                    milliseconds | {"scoreinv": milliseconds["scoreinv"] / batch},
                )


def errors(n_views: int) -> dict[str, float]:
    """Relative error of each projection of the pixelated head against the exact sinogram of its ellipses."""
    spec = SparseViewCT(n_views=n_views)
    operator, geometry, x = spec.operator(SIZE), spec.geometry(SIZE), shepp_logan(SIZE)
    exact = exact_sinogram(SHEPP_LOGAN, SIZE, geometry.angles, n_bins=geometry.n_bins)
    linear = operator.with_projector("astra")
    image = torch.from_numpy(x)[None, None]
    found = {
        "scoreinv": operator.forward(image)[0].numpy(),
        "scikit-image": radon(x, np.rad2deg(geometry.angles), circle=False).T,
        "ASTRA linear": linear.forward(image)[0].numpy(),
    }
    return {name: float(np.linalg.norm(y - exact) / np.linalg.norm(exact)) for name, y in found.items()}


def table(timings: list[Row]) -> list[str]:
    """Markdown lines; the ratio is to the fastest of the others."""
    names = list(timings[0][-1])
    head = ["threads", "views", "batch", "operation", *names, "fastest other / scoreinv"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for *labels, milliseconds in timings:
        cells = [*map(str, labels), *(f"{milliseconds[name]:.2f}" for name in names), f"{ratio(milliseconds):.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def ratio(milliseconds: dict[str, float]) -> float:
    """How many times longer the fastest other takes."""
    return min(value for name, value in milliseconds.items() if name != "scoreinv") / milliseconds["scoreinv"]


def report(timings: list[Row], accuracy: dict[str, float], n_repeats: int) -> str:
    """The page."""
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "scikit-image", "astra-toolbox")
    )
    goal = [ratio(row[-1]) for row in timings if row[1:3] == (23, 16)]
    return "\n".join(
        [
            "# CT operators on the CPU",
            "",
            f"Milliseconds per slice of {SIZE} x {SIZE} pixels and {math.ceil(math.sqrt(2) * SIZE)} bins, float32, "
            f"median of {n_repeats} repeats in which all take turns. Written by `python benchmarks/operators.py`.",
            "",
            f"Python {platform.python_version()}, {packages}. Threads are those of torch; the others use one. "
            "The others take one slice at a time, so their batch of 16 is 16 times one slice.",
            "",
            *table(timings),
            "",
            f"Goal: {GOAL:.0f} times at 23 views and batch 16. Reached: {min(goal):.1f} to {max(goal):.1f} times.",
            "",
            "Relative error of the projection of the pixelated head phantom, 23 views, against the exact sinogram of "
            "its ellipses: " + ", ".join(f"{name} {error:.4f}" for name, error in accuracy.items()) + ". "
            "(scikit-image turns about the pixel at size // 2, half a pixel beside the centre of an even image.)",
            "",
        ]
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1], help="Of torch; more need idle cores to be worth it."
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    timings = [row for n_views in (23, 180) for row in rows(n_views, options.threads, options.repeats)]
    page = report(timings, errors(23), options.repeats)
    print(page)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page)


if __name__ == "__main__":
    main()
