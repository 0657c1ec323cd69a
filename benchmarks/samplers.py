"""Where a sampler's time goes: network, data step, noise, rest; and how fast the network runs beside a matrix product.

    python benchmarks/samplers.py
    python benchmarks/samplers.py --methods dds "{kind: diffpir, n_cg: 10}" --batches 4

The shipped priors on simulated heads: CT with 23 views and MRI 8 times faster, one thread, with the memory settings of
a worker. All times are CPU times of the thread, so that what else the machine does matters little. A data step
is what the operator does, with the algebra of the conjugate gradients around it. Writes benchmarks/results/samplers.md.
"""

import argparse
import copy
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

import numpy as np
import torch
import yaml
from pydantic import TypeAdapter
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from scoreinv.contract import Modality, PriorContract
from scoreinv.denoiser import Denoiser
from scoreinv.linalg import conjugate_gradient
from scoreinv.measurement import MeasurementSpec, simulate
from scoreinv.methods import AnyMethod
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import rasterise, varied_head
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.samplers import data_step
from tasks.workers.priors import load_prior
from tasks.workers.setup import KEEP_MEMORY

PRIORS = ("ct-128", "mri-128")
MEASUREMENTS: dict[Modality, MeasurementSpec] = {
    "ct": SparseViewCT(n_views=23),
    "mri": CartesianMRI(acceleration=8),
}
GOALS: dict[Modality, float] = {"ct": 10.0, "mri": 5.0}
"""Percent of the time that a sampler may need beside the network."""
RATE_GOAL = 60.0
"""Percent of the matrix product's arithmetic rate that the network shall reach."""
PARTS = ("network", "data step", "noise", "rest")
MATRIX_SIZE = 2048
N_CALLS = 8
RESULTS = Path(__file__).parent / "results" / "samplers.md"

Result = TypeVar("Result")


class Profile(NamedTuple):
    """Seconds of each part of one reconstruction of a batch."""

    prior: str
    method: Method
    batch: int
    seconds: dict[str, float]


class Rate(NamedTuple):
    """Operations of one call for one image, seconds of it, and those operations per second of a matrix product."""

    prior: str
    batch: int
    n_operations: float
    seconds: float
    matrix_rate: float

    @property
    def percent(self) -> float:
        """Of the matrix product's rate."""
        return 100 * self.n_operations / self.seconds / self.matrix_rate


class Stopwatch:
    """CPU seconds of this thread, each in the innermost part that runs."""

    def __init__(self) -> None:
        self.seconds = Counter[str]()
        self._parts = ["rest"]
        self._since = time.thread_time()

    def timed(self, part: str, call: Callable[..., Result]) -> Callable[..., Result]:
        """The same function, its time counted for a part."""

        def wrapped(*args: Any, **options: Any) -> Result:
            self.lap()
            self._parts.append(part)
            try:
                return call(*args, **options)
            finally:
                self.lap()
                self._parts.pop()

        return wrapped

    def lap(self) -> None:
        """Count what has passed for the part that runs."""
        now = time.thread_time()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now


def profile(prior: str, method: Method, batch: int, options: argparse.Namespace) -> Profile:
    """Times of a batch of simulated heads: the least of each part over the repeats."""
    denoiser, contract = load_prior(prior, "cpu", options.precision, options.compile)
    problem, names = simulated(contract, batch)
    with torch.no_grad():
        denoiser(torch.zeros(batch, *problem.operator.image_shape), torch.ones(batch))
        runs = [watched(method, problem, denoiser, Noise(0, names)) for _ in range(options.repeats)]
    return Profile(prior, method, batch, {part: min(run[part] for run in runs) for part in PARTS})


def simulated(contract: PriorContract, batch: int) -> tuple[InverseProblem, list[str]]:
    """Data of random heads, computed on a grid twice as fine."""
    size, generator = contract.image.size, np.random.default_rng(0)
    heads = np.stack([rasterise(varied_head(generator), 2 * size, supersampling=4) for _ in range(batch)])
    measurement, names = MEASUREMENTS[contract.image.modality], [str(place) for place in range(batch)]
    data = simulate(measurement, torch.from_numpy(heads)[:, None], contract.image, Noise(0, names))
    problem = InverseProblem.of(measurement, data, contract.image)
    problem.operator.direct(data.y)  # builds matrices, once in a process
    return problem, names


def watched(method: Method, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> dict[str, float]:
    """Seconds of each part of a method's run."""
    watch, operator = Stopwatch(), copy.copy(problem.operator)
    for thing, part in ((operator, "data step"), (noise, "noise")):
        for name in ("forward", "adjoint", "normal", "direct", "correct", "project", "norm", "poisson", "normal_like"):
            if hasattr(thing, name):
                setattr(thing, name, watch.timed(part, getattr(thing, name)))
    timed_gradients = watch.timed("data step", conjugate_gradient)
    with patch.object(data_step, "conjugate_gradient", timed_gradients):
        watched_problem = InverseProblem(operator, problem.y, problem.noise_std)
        reconstruct(method, watched_problem, watch.timed("network", denoiser), noise=noise)
    watch.lap()
    return {part: watch.seconds[part] for part in PARTS}


def rates(prior: str, batches: list[int], options: argparse.Namespace) -> Iterator[Rate]:
    """Of the network at every batch size; calls and matrix products take turns, and the fastest of each counts."""
    denoiser, contract = load_prior(prior, "cpu", options.precision, options.compile)
    plain, _ = load_prior(prior, "cpu", "float32")
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    for batch in batches:
        x, sigma = torch.rand(batch, 1, contract.image.size, contract.image.size), torch.full((batch,), 0.5)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            plain(x, sigma)
        with torch.no_grad():
            calls: dict[str, Callable[[], Tensor]] = {
                "network": lambda x=x, sigma=sigma: denoiser(x, sigma),
                "matrix": lambda: matrix @ matrix,
            }
            best = fastest(calls)
        yield Rate(
            prior,
            batch,
            counter.get_total_flops() / batch,
            best["network"] / batch,
            2 * MATRIX_SIZE**3 / best["matrix"],
        )


def fastest(calls: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """The least CPU seconds of each call; they take turns, after two calls of each that are not counted."""
    rounds = []
    for _ in range(N_CALLS + 2):
        watch = Stopwatch()
        for name, call in calls.items():
            watch.timed(name, call)()
        rounds.append(watch.seconds)
    return {name: min(seconds[name] for seconds in rounds[2:]) for name in calls}


def read_method(text: str) -> Method:
    """A method from its kind, from its options as YAML, or from a recipe file that has it under ``reconstruction``."""
    content = yaml.safe_load(Path(text).read_text() if Path(text).is_file() else text)
    if isinstance(content, str):
        content = {"kind": content}
    content = content.get("reconstruction", content)
    return TypeAdapter[AnyMethod](AnyMethod).validate_python(content.get("method", content))


def profile_table(profiles: list[Profile]) -> list[str]:
    """Markdown lines: percent of each part."""
    head = ["method", "network calls", "prior", "batch", "ms per image and call", *PARTS, "all but the network"]
    lines = ["| " + " | ".join(head) + " |", "| --- | ---: | --- |" + " ---: |" * (len(head) - 3)]
    for prior, method, batch, seconds in profiles:
        total = sum(seconds.values())
        shares = [100 * seconds[part] / total for part in PARTS]
        each = 1000 * total / batch / max(method.n_calls, 1)
        cells = [method.label, str(method.n_calls), prior, str(batch), f"{each:.1f}"]
        cells += [f"{share:.1f} %" for share in (*shares, 100 - shares[0])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def rate_table(found: list[Rate]) -> list[str]:
    """Markdown lines: one call of the network beside the matrix product."""
    lines = ["| prior | batch | GFLOP per image | ms per image | GFLOP/s | matrix product GFLOP/s | share |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for rate in found:
        speed, matrix = rate.n_operations / rate.seconds / 1e9, rate.matrix_rate / 1e9
        cells = [rate.prior, str(rate.batch), f"{rate.n_operations / 1e9:.2f}", f"{1000 * rate.seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {speed:.1f} | {matrix:.1f} | {rate.percent:.0f} % |")
    return lines


def report(profiles: list[Profile], found: list[Rate], options: argparse.Namespace) -> str:
    """The page."""
    chosen = f"{options.precision}{', compiled' if options.compile else ''}"
    return "\n".join(
        [
            "# Where a sampler's time goes",
            "",
            f"One thread of an {instructions()} CPU, {chosen}, torch {torch.__version__}, Python "
            f"{platform.python_version()}; CPU time of the thread. Written by `python benchmarks/samplers.py`.",
            "",
            *profile_table(profiles),
            "",
            *(goal_line(modality, profiles) for modality in MEASUREMENTS),
            f"## The network's arithmetic rate beside a float32 product of {MATRIX_SIZE} x {MATRIX_SIZE} matrices",
            "",
            *rate_table(found),
            "",
            f"Goal: at least {RATE_GOAL:.0f} %. Reached: {span([rate.percent for rate in found])}.",
            "",
        ]
    )


def instructions() -> str:
    """The vector instructions that torch uses here."""
    return torch.backends.cpu.get_cpu_capability().replace("AVX512", "AVX-512")


def goal_line(modality: Modality, profiles: list[Profile]) -> str:
    """What the goal is, and what was reached."""
    mine = [one.seconds for one in profiles if one.prior.startswith(modality)]
    shares = [100 - 100 * seconds["network"] / sum(seconds.values()) for seconds in mine]
    title = MEASUREMENTS[modality].title()
    return f"Goal for {title}: all but the network at most {GOALS[modality]:.0f} %. Reached: {span(shares)}.\n"


def span(percents: list[float]) -> str:
    """From the least to the most."""
    return f"{min(percents):.1f} to {max(percents):.1f} %"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", type=read_method, default=[read_method("dds")], metavar="METHOD")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--repeats", type=int, default=2, help="of every reconstruction (default: %(default)s)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    profiles = [
        profile(prior, method, batch, options)
        for method in options.methods
        for prior in PRIORS
        for batch in options.batches
    ]
    found = [rate for prior in PRIORS for rate in rates(prior, options.batches, options)]
    page = report(profiles, found, options)
    print(page)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(page)


if __name__ == "__main__":
    if not KEEP_MEMORY.items() <= os.environ.items():
        # glibc reads these when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | KEEP_MEMORY)
    main()
