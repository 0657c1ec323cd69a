"""What everything around the computing costs: CPU seconds beside a plain loop, memory, and how fast commands start.

    python -m benchmarks.overhead --fbp 20000 --dds 200 --workspace FOLDER

A pipeline over phantoms (FBP on 64 x 64 pixels, DDS with the prior ct-128 on 128 x 128) runs as a command with two
workers, and the same library calls in one loop of this process: list the source, read and prepare each slice, simulate,
reconstruct by eights, measure. Counted are user and system seconds of all processes, which other work on the machine
changes less than it changes the time that passes. Then commands of the finished workspace run again, and a measurement
with a new seed until its first shard lies there. Writes
results/overhead.md.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.watching import MEMORY_HEAD, MEMORY_TEXT, Run, memory_rows, table, watched
from scoreinv.measurement import simulate
from scoreinv.metrics.posterior import data_residual
from scoreinv.noise import Noise
from scoreinv.problem import InverseProblem, run
from scoreinv.spec import Spec
from storage.resample import prepare
from storage.sources import collect
from tasks.recipes import EvaluateRecipe, MeasureRecipe, PipelineRecipe, ReconstructRecipe, Study, report_of
from tasks.workers.evaluate import image_columns
from tasks.workers.priors import load_prior

RESULTS = Path(__file__).parent / "results" / "overhead.md"
BATCH, VOLUME = 8, 40
"""Slices that are reconstructed at once, and slices of a volume."""
METHODS = {"FBP": (64, {"method": {"kind": "direct"}}), "DDS": (128, {"method": {"kind": "dds"}, "prior": "ct-128"})}


def recipe_of(name: str, n_slices: int) -> PipelineRecipe:
    """A study of so many phantoms with one method."""
    size, method = METHODS[name]
    pixel = {"size": size, "pixel_mm": 448 / size}
    source = {"kind": "phantom", "n_volumes": -(-n_slices // VOLUME), "n_slices": VOLUME, **pixel}
    measurement = {"kind": "sparse_view_ct", "n_views": 23, "noise": {"kind": "gaussian", "noise_std": 0.01}}
    study = {
        "name": "phantoms",
        "ingest": {"source": source, "image": {"modality": "ct", "low": -1000, "high": 1000, **pixel}},
        "simulation": {"measurement": measurement},
        "reconstructions": [method],
    }
    return PipelineRecipe.model_validate({"title": "Overhead", "studies": [study]})


def plain(study: Study) -> tuple[int, float, float]:
    """Slices, CPU seconds of the same library calls in a loop, and those among them that list the source."""
    start, choice, measurement = time.process_time(), study.reconstructions[0], study.simulation.measurement
    if study.ingest is None:
        raise ValueError("a study that ingests was wanted")
    source, image = study.ingest.source, study.ingest.image
    model = load_prior(choice.prior, "cpu", choice.precision)[0] if choice.prior else None
    records = collect(source.scan()).slices
    listed = time.process_time()
    for first in range(0, len(records), BATCH):
        batch = records[first : first + BATCH]
        names, values = [one.slice_id for one in batch], zip(batch, source.load(batch), strict=True)
        images = torch.stack([torch.from_numpy(prepare(value, one.spacing_mm, image)[0]) for one, value in values])
        truth = images[:, None]
        data = simulate(measurement, truth, image, Noise(0, names, purpose="measurement"))
        problem = InverseProblem.of(measurement, data, image)
        with torch.no_grad():
            *_, step = run(choice.method, problem, model, noise=Noise(0, names))
        image_columns(step.x, truth)
        data_residual(step.x, problem)
    return len(records), time.process_time() - start, listed - start


def cost_rows(name: str, n_slices: int, workspace: Path) -> tuple[list[str], list[list[str]]]:
    """A pipeline beside the loop, and its processes: GiB at a quarter, half and the end of their life, and at most."""
    recipe = recipe_of(name, n_slices)
    _, cpu, memory = watched("pipeline", recipe, workspace / name, workspace)
    n, loop, listing = plain(recipe.studies[0])
    shares = [f"{100 * (cpu / one - 1):.0f} %" for one in (loop, loop - listing)]
    database = sum(one.stat().st_size for one in (workspace / name / ".prefect").glob("prefect.db*")) / 1e6
    return [name, f"{n}", f"{cpu:.0f}", f"{loop:.0f}", *shares, f"{database:.1f}"], memory_rows(name, memory)


def start_rows(recipe: PipelineRecipe, place: Path, n_tries: int) -> list[list[str]]:
    """Commands of a finished workspace with nothing to do, and a new measurement until its first shard is there."""
    study, made = recipe.studies[0], {path.parent.name: f"{path.parent.name}/{path.name}" for path in place.glob("*/*")}
    measure = MeasureRecipe(dataset=made["datasets"], simulation=study.simulation)
    choice = {"measurements": made["measurements"], "reconstruction": study.reconstructions[0]}
    recipes: dict[str, Spec | None] = {
        "pipeline": recipe,
        "ingest": study.ingest,
        "measure": measure,
        "reconstruct": ReconstructRecipe.model_validate(choice),
        "evaluate": EvaluateRecipe(reconstructions=(made["reconstructions"],)),
        "report": report_of(recipe, [made["scores"]]),
    }
    rows = [
        [f"{name}, nothing to do", *medians([watched(name, one, place, place.parent) for _ in range(n_tries)])]
        for name, one in recipes.items()
        if one is not None
    ]
    tries = []
    for seed in range(1, n_tries + 1):
        new = measure.model_copy(update={"simulation": study.simulation.model_copy(update={"seed": seed})})
        tries.append(watched("measure", new, place, place.parent, more_than(len(done_in(place)), place)))
    return [*rows, ["measure, until its first shard is done", *medians(tries)]]


def more_than(n: int, place: Path) -> Callable[[], bool]:
    """Whether more than so many shards of measurements are done."""
    return lambda: len(done_in(place)) > n


def done_in(place: Path) -> list[Path]:
    """The markers of all measurements."""
    return list(place.glob("measurements/*/done/*.json"))


def medians(tries: list[Run]) -> list[str]:
    """Seconds that passed, and CPU seconds."""
    return [f"{statistics.median(values):.1f}" for values in zip(*(one[:2] for one in tries), strict=True)]


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fbp", type=int, default=20_000, help="slices of the pipeline by FBP (default: %(default)s)")
    parser.add_argument("--dds", type=int, default=200, help="slices of that by DDS; 0: none (default: %(default)s)")
    parser.add_argument("--tries", type=int, default=3, help="of every start (default: %(default)s)")
    parser.add_argument("--workspace", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.workspace.mkdir(parents=True)
    wanted = {"FBP": options.fbp, "DDS": options.dds}
    costs = [cost_rows(name, n, options.workspace) for name, n in wanted.items() if n]
    print(costs, flush=True)
    starts = start_rows(recipe_of("FBP", options.fbp), options.workspace / "FBP", options.tries)
    made = f"python -m benchmarks.overhead --fbp {options.fbp} --dds {options.dds} --tries {options.tries}"
    head = "pipeline | slices | CPU s | of the loop | more than the loop | than one that lists nothing | database, MB"
    texts = [
        f"# What a pipeline costs beside its computing\n\nMade by `{made}`, whose docstring says what is measured, on "
        f"{os.cpu_count()} cores that others used too (load {os.getloadavg()[2]:.0f}).\n",
        table(head, [row for row, _ in costs]),
        MEMORY_TEXT,
        table(MEMORY_HEAD, [row for _, rows in costs for row in rows]),
        f"Medians of {options.tries}; CPU seconds are those of the command and of all its processes:\n",
        table("command | seconds | CPU s", starts),
    ]
    RESULTS.write_text("\n".join(texts))


if __name__ == "__main__":
    main()
