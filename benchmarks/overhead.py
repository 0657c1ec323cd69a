"""What everything around the computing costs: CPU seconds beside a plain loop, memory, and how fast commands start.

    python -m benchmarks.overhead --fbp 20000 --dds 200 --workspace FOLDER

A pipeline over phantoms (FBP on 64 x 64 pixels, DDS with the prior ct-128 on 128 x 128) runs as a command with two
workers, and the same library calls in one loop of this process: list the source, read and prepare each slice, simulate,
reconstruct by eights, measure. Counted are user and system seconds of all processes of a command, which other work on
the machine changes less than it changes the time that passes. Then the commands of a finished workspace run again, and
a measurement with a new seed until its first shard lies there. Writes results/overhead.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
import yaml

from scoreinv.measurement import simulate
from scoreinv.metrics.posterior import data_residual
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, run
from storage.resample import prepare
from storage.sources import collect
from tasks.recipes import EvaluateRecipe, MeasureRecipe, PipelineRecipe, ReconstructRecipe, Study, report_of
from tasks.workers.evaluate import image_columns
from tasks.workers.priors import load_prior

RESULTS = Path(__file__).parent / "results" / "overhead.md"
COMMAND = (sys.executable, "-m", "flows.cli")
BATCH, VOLUME = 8, 40
"""Slices that are reconstructed at once, and slices of a volume."""

LOOK_SECONDS = 0.3


class Run(NamedTuple):
    """A command that has ended: seconds that passed, of all processors, and the memory of each process over time."""

    seconds: float
    cpu: float
    memory: dict[str, list[float]]
    """GiB now and then, by what the process is."""


def recipe_of(n_slices: int, size: int, method: dict[str, Any]) -> PipelineRecipe:
    """A study of so many phantoms with one method."""
    source = {"kind": "phantom", "n_volumes": -(-n_slices // VOLUME), "n_slices": VOLUME, "size": size}
    pixel_mm = 448 / size
    image = {"modality": "ct", "size": size, "pixel_mm": pixel_mm, "low": -1000, "high": 1000}
    noise = {"kind": "gaussian", "noise_std": 0.01}
    study = {
        "name": "phantoms",
        "ingest": {"source": source | {"pixel_mm": pixel_mm}, "image": image},
        "simulation": {"measurement": {"kind": "sparse_view_ct", "n_views": 23, "noise": noise}},
        "reconstructions": [method],
    }
    return PipelineRecipe.model_validate({"title": "Overhead", "studies": [study]})


def plain(study: Study) -> tuple[float, float]:
    """CPU seconds of the same library calls in a loop, and those among them that list the source."""
    start = time.process_time()
    ingest, choice, measurement = study.ingest, study.reconstructions[0], study.simulation.measurement
    assert ingest is not None
    model = load_prior(choice.prior, "cpu", choice.precision)[0] if choice.prior else None
    records = collect(ingest.source.scan()).slices
    listed = time.process_time()
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        values = zip(batch, ingest.source.load(batch), strict=True)
        images = [torch.from_numpy(prepare(one, record.spacing_mm, ingest.image)[0]) for record, one in values]
        truth, names = torch.stack(images)[:, None], [record.slice_id for record in batch]
        data = simulate(measurement, truth, ingest.image, Noise(0, names, purpose="measurement"))
        problem = InverseProblem.of(measurement, data, ingest.image)
        with torch.no_grad():
            *_, step = run(choice.method, problem, model, noise=Noise(0, names))
        image_columns(step.x, truth)
        data_residual(step.x, problem)
    return time.process_time() - start, listed - start


def watched(*arguments: str, is_over: Callable[[], bool] = lambda: False) -> Run:
    """Run a command to its end, or until something is so, and look at its processes meanwhile."""
    start, next_look = time.perf_counter(), 0.0
    command = psutil.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds: dict[int, float] = {}
    memory: dict[str, list[float]] = defaultdict(list)
    while command.poll() is None and not is_over():
        if time.perf_counter() >= next_look:
            next_look = time.perf_counter() + LOOK_SECONDS
            look_at(command, seconds, memory)
        time.sleep(0.02)
    passed = time.perf_counter() - start
    if command.poll() is None:
        look_at(command, seconds, memory)
        command.terminate()
        command.wait()
    elif command.wait():
        raise RuntimeError(f"{' '.join(arguments)} ended with exit code {command.wait()}")
    return Run(passed, sum(seconds.values()), dict(memory))


def look_at(command: psutil.Process, seconds: dict[int, float], memory: dict[str, list[float]]) -> None:
    """Note how long each process of a command has computed, and what it holds now."""
    for process in [command, *command.children(recursive=True)]:
        try:
            words, times = process.cmdline(), process.cpu_times()
            seconds[process.pid] = times.user + times.system
            module = next((word for word in words if word.startswith(("flows.", "tasks.", "storage."))), "other")
            name = module.rpartition(".")[2] + (f" {words[-2]}" if module.endswith("serve") else "")
            memory[name].append(process.memory_info().rss / 2**30)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass


def waited_for() -> float:
    """CPU seconds of all processes that have ended below this one."""
    now = os.times()
    return now.children_user + now.children_system


def pipeline_row(name: str, recipe: PipelineRecipe, workspace: Path) -> tuple[list[str], Run]:
    """A pipeline beside the loop, as a row of a table; and its memory."""
    path = written(workspace / f"{name}.yaml", recipe.model_dump(mode="json"))
    before = waited_for()
    result = watched("pipeline", path, "--workspace", str(workspace / name))
    cpu = waited_for() - before
    (loop, listing), ingest = plain(recipe.studies[0]), recipe.studies[0].ingest
    assert ingest is not None
    database = sum(one.stat().st_size for one in (workspace / name / ".prefect").glob("prefect.db*")) / 1e6
    shares = [f"{100 * (cpu / one - 1):.0f} %" for one in (loop, loop - listing)]
    return [
        name,
        f"{ingest.source.n_volumes * VOLUME}",
        f"{cpu:.0f}",
        f"{loop:.0f}",
        *shares,
        f"{database:.1f} MB",
    ], result


def start_rows(name: str, recipe: PipelineRecipe, workspace: Path, n_tries: int) -> list[list[str]]:
    """Commands of a finished workspace with nothing to do, and a new measurement until its first shard is there."""
    place, study, done = workspace / name, recipe.studies[0], workspace / name / "measurements"
    recipes = {
        "pipeline": recipe,
        "ingest": study.ingest,
        "measure": MeasureRecipe(dataset=only(place, "datasets"), simulation=study.simulation),
        "reconstruct": ReconstructRecipe(
            measurements=only(place, "measurements"), reconstruction=study.reconstructions[0]
        ),
        "evaluate": EvaluateRecipe(reconstructions=(only(place, "reconstructions"),)),
        "report": report_of(recipe, [only(place, "scores")]),
    }
    rows = []
    for command, one in recipes.items():
        path = written(workspace / f"{command}.yaml", one.model_dump(mode="json"))
        tries = [watched(command, path, "--workspace", str(place)) for _ in range(n_tries)]
        rows.append([f"{command}, nothing to do", *medians(tries)])
    tries = []
    for seed in range(1, n_tries + 1):
        known = len(list(done.glob("*/done/*")))
        arguments = ("measure", str(workspace / "measure.yaml"), f"simulation.seed={seed}", "--workspace", str(place))
        tries.append(watched(*arguments, is_over=lambda known=known: len(list(done.glob("*/done/*"))) > known))
    return [*rows, ["measure, until its first shard is done", *medians(tries)]]


def written(path: Path, content: dict[str, Any]) -> str:
    """A recipe as a file."""
    path.write_text(yaml.safe_dump(content))
    return str(path)


def only(place: Path, stage: str) -> str:
    """The reference of the one result of a stage."""
    (found,) = (place / stage).iterdir()
    return f"{stage}/{found.name}"


def medians(tries: list[Run]) -> list[str]:
    """Seconds that passed, and CPU seconds."""
    return [f"{statistics.median(getattr(one, name) for one in tries):.1f}" for name in ("seconds", "cpu")]


def memory_rows(name: str, result: Run) -> list[list[str]]:
    """Of each process: GiB at a quarter, half and the end of its life, and at most."""
    shown = {process: one for process, one in sorted(result.memory.items()) if len(one) > 8}
    return [
        [name, process, *(f"{one[int(share * (len(one) - 2))]:.2f}" for share in (0.25, 0.5, 1)), f"{max(one):.2f}"]
        for process, one in shown.items()
    ]


def table(head: str, rows: list[list[str]]) -> str:
    """As Markdown; columns but the first are numbers."""
    line = "| --- |" + " ---: |" * head.count(",")
    return "\n".join([f"| {head.replace(',', ' |')} |", line, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fbp", type=int, default=20_000, help="slices of the pipeline by FBP (default: %(default)s)")
    parser.add_argument("--dds", type=int, default=200, help="slices of the pipeline by DDS (default: %(default)s)")
    parser.add_argument("--tries", type=int, default=3, help="of every start (default: %(default)s)")
    parser.add_argument("--workspace", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.workspace.mkdir(parents=True)
    methods = {"FBP": {"method": {"kind": "direct"}}, "DDS": {"method": {"kind": "dds"}, "prior": "ct-128"}}
    sizes = {"FBP": (options.fbp, 64), "DDS": (options.dds, 128)}
    recipes = {name: recipe_of(*sizes[name], methods[name]) for name in methods if sizes[name][0]}
    costs, memory = [], []
    for name, recipe in recipes.items():
        row, result = pipeline_row(name, recipe, options.workspace)
        costs.append(row)
        memory += memory_rows(name, result)
        print(" | ".join(row), flush=True)
    starts = start_rows("FBP", recipes["FBP"], options.workspace, options.tries)
    load = f"{os.cpu_count()} cores, load {os.getloadavg()[2]:.1f}"
    RESULTS.write_text(
        f"# What a pipeline costs beside its computing\n\nMade by `python -m benchmarks.overhead --fbp {options.fbp} "
        f"--dds {options.dds}`, whose docstring says what is measured, on {load}.\n\n"
        + table("pipeline, slices, CPU s, of the loop, over the loop, over a loop that lists nothing, database", costs)
        + "\n\nGiB of each process:\n\n"
        + table("pipeline, process, a quarter through, half, at the end, at most", memory)
        + f"\n\nMedians of {options.tries} tries; CPU seconds are what an idle machine takes at most, where processes "
        "wait for each other:\n\n" + table("command, seconds, CPU s", starts) + "\n"
    )


if __name__ == "__main__":
    main()
