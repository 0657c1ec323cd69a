"""One worker beside two: seconds of a reconstruction by DDS, whole commands from beginning to end.

    python -m benchmarks.scaling --workspace FOLDER

It says something on idle cores alone, so the share of both cores that others had meanwhile is written down beside it.
Writes results/scaling.md.
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.overhead import BATCH, recipe_of
from benchmarks.watching import table, watched
from tasks.recipes import MeasureRecipe, ReconstructRecipe

RESULTS = Path(__file__).parent / "results" / "scaling.md"


class Timed(NamedTuple):
    """A command: seconds that passed, CPU seconds of its processes, and the share of all cores that others had."""

    seconds: float
    cpu: float
    others: float


def measured(n_slices: int, workspace: Path) -> list[Timed]:
    """A reconstruction of so many phantoms with one worker, and with two."""
    study, place = recipe_of("DDS", n_slices).studies[0], workspace / "workers"
    if study.ingest is None:
        raise ValueError("a study that ingests was wanted")
    watched("ingest", study.ingest.model_copy(update={"shard_size": BATCH}), place, workspace)
    (dataset,) = place.glob("datasets/*")
    ref = f"datasets/{dataset.name}"
    watched("measure", MeasureRecipe(dataset=ref, simulation=study.simulation), place, workspace)
    (measurements,) = place.glob("measurements/*")
    found = []
    for n_workers in (1, 2):
        choice = study.reconstructions[0].model_copy(update={"seed": n_workers})
        wanted = ReconstructRecipe(measurements=f"measurements/{measurements.name}", reconstruction=choice)
        before = busy_seconds()
        run = watched("reconstruct", wanted, place, workspace, n_workers=n_workers)
        others = busy_seconds() - before - run.cpu
        found.append(Timed(run.seconds, run.cpu, max(0.0, others) / run.seconds / (os.cpu_count() or 1)))
    return found


def busy_seconds() -> float:
    """CPU seconds that all processes of this machine have had, and those it was kept waiting for."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "steal", 0.0))


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=96, help="to reconstruct (default: %(default)s)")
    parser.add_argument("--workspace", type=Path, required=True, help="a new folder")
    options = parser.parse_args()
    options.workspace.mkdir(parents=True)
    one, two = measured(options.slices, options.workspace)
    rows = [
        [f"{n}", f"{run.seconds:.0f}", f"{run.cpu:.0f}", f"{100 * run.others:.0f} %"] for n, run in ((1, one), (2, two))
    ]
    texts = [
        f"# One worker beside two\n\nMade by `python -m benchmarks.scaling --slices {options.slices}`: reconstructions "
        f"by DDS at 128 x 128, whole commands, on {os.cpu_count()} cores. Two workers are "
        f"{one.seconds / two.seconds:.2f} times as fast.\n",
        table("workers | seconds | CPU s | of all cores that others had", rows),
    ]
    RESULTS.write_text("\n".join(texts))


if __name__ == "__main__":
    main()
