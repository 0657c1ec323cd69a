"""A pipeline over very many slices in a bucket: time, requests, memory and the size of Prefect's database.

    python -m benchmarks.bucket --slices 100000 --folder FOLDER

Phantoms of 64 x 64 pixels, FBP from 23 views, stage by stage with two workers. The bucket is one of Ceph's gateway with
one store in memory, all on this machine (``tests.buckets.clouds`` says what it needs), whose log counts the requests;
what it computes itself is told apart. At last the whole pipeline is asked for again, and has nothing to do. Writes
results/bucket.md.
"""

import argparse
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import psutil

from benchmarks.overhead import recipe_of
from benchmarks.watching import MEMORY_HEAD, MEMORY_TEXT, Run, memory_rows, table, watched
from scoreinv.spec import Spec
from storage.uri import join, list_names, sizes_below
from tasks.recipes import EvaluateRecipe, MeasureRecipe, PipelineRecipe, ReconstructRecipe, report_of
from tests.buckets.clouds import ceph

RESULTS = Path(__file__).parent / "results" / "bucket.md"
STORE_BYTES = 12 * 2**30
REQUEST = re.compile(rb'"(GET|HEAD|PUT|POST|DELETE) \S+ HTTP')


class Row(NamedTuple):
    """A command, and what the server was asked meanwhile."""

    command: str
    run: Run
    requests: "Counter[str]"
    server_cpu: float


class Gateway:
    """Its log, from where it was read to, and its processes."""

    def __init__(self, log: Path, processes: list[psutil.Process]) -> None:
        self.log, self.processes, self.read = log, processes, 0

    def requests(self) -> "Counter[str]":
        """Of each method, since this was called last."""
        with self.log.open("rb") as file:
            file.seek(self.read)
            content = file.read()
        self.read += len(content)
        return Counter(found.decode() for found in REQUEST.findall(content))

    def cpu(self) -> float:
        """User and system seconds so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


def watch(command: str, recipe: Spec, workspace: str, gateway: Gateway, folder: Path) -> Row:
    """Run one command of it to its end."""
    before = gateway.cpu()
    gateway.requests()
    run = watched(command, recipe, workspace, folder)
    time.sleep(2)  # The log is written a little later.
    row = Row(command, run, gateway.requests(), gateway.cpu() - before)
    print(row.command, f"{run.seconds:.0f} s", dict(row.requests), flush=True)
    return row


def stages(recipe: PipelineRecipe, workspace: str, gateway: Gateway, folder: Path) -> list[Row]:
    """Every stage by its own command, then the pipeline, for which nothing is left."""
    study = recipe.studies[0]
    if study.ingest is None:
        raise ValueError("a study that ingests was wanted")

    def made(stage: str) -> str:
        return f"{stage}/{list_names(join(workspace, stage))[0]}"

    rows = [watch("ingest", study.ingest, workspace, gateway, folder)]
    measure = MeasureRecipe(dataset=made("datasets"), simulation=study.simulation)
    rows.append(watch("measure", measure, workspace, gateway, folder))
    choice = {"measurements": made("measurements"), "reconstruction": study.reconstructions[0]}
    rows.append(watch("reconstruct", ReconstructRecipe.model_validate(choice), workspace, gateway, folder))
    evaluate = EvaluateRecipe(reconstructions=(made("reconstructions"),))
    rows.append(watch("evaluate", evaluate, workspace, gateway, folder))
    rows.append(watch("report", report_of(recipe, [made("scores")]), workspace, gateway, folder))
    rows.append(watch("pipeline", recipe, workspace, gateway, folder))
    return rows


def cells(row: Row, n_slices: int, n_shards: int) -> list[str]:
    """Of one command, as text."""
    n, most = row.requests.total(), max((max(one) for one in row.run.memory.values()), default=0.0)
    asked = ", ".join(f"{n} {name}" for name, n in sorted(row.requests.items()))
    costs = [f"{row.run.seconds:.0f}", f"{row.run.cpu:.0f}", f"{row.server_cpu:.0f}"]
    return [row.command, *costs, f"{n}", f"{n / n_slices:.2f}", f"{n / n_shards:.2f}", asked, f"{most:.2f}"]


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, required=True, help="a new folder, for the server and Prefect")
    options = parser.parse_args()
    server, home = options.folder.resolve() / "ceph", options.folder.resolve() / "prefect"
    server.mkdir(parents=True)
    # Ceph's own limit of a store in memory is that of its tests.
    known, recipe = set(psutil.Process().children()), recipe_of("FBP", options.slices)
    with patch("tests.buckets.clouds.STORE_BYTES", STORE_BYTES), ceph(server) as cloud:
        started = [one for one in psutil.Process().children() if one not in known]
        environment = cloud.environment(cloud.endpoint) | {"PREFECT_HOME": str(home)}
        with patch.dict(os.environ, environment):
            workspace = join(cloud.make_bucket(), "results")
            gateway = Gateway(server / "log" / "client.rgw.log", started)
            rows = stages(recipe, workspace, gateway, options.folder)
            sizes = sizes_below(workspace)
    database = sum(one.stat().st_size for one in home.glob("prefect.db*")) / 1e6
    n_shards = -(-options.slices // 32)
    head = "command | seconds | CPU s | CPU s of the server | requests | a slice | a shard | which | GiB at most"
    total = sum(row.requests.total() for row in rows[:-1])
    texts = [
        f"# {options.slices} slices in a bucket\n",
        f"Made by `python -m benchmarks.bucket --slices {options.slices}`, whose docstring says what is measured, on"
        f" {os.cpu_count()} cores that others used too (load {os.getloadavg()[2]:.0f}).\n",
        table(head, [cells(row, options.slices, n_shards) for row in rows]),
        f"The last has nothing to do. All stages together: {total / options.slices:.2f} requests a slice, {len(sizes)}"
        f" objects, {sum(sizes.values()) / 1e9:.2f} GB. Prefect's database: {database:.1f} MB.\n",
        MEMORY_TEXT,
        table(MEMORY_HEAD, [one for row in rows for one in memory_rows(row.command, row.run.memory)]),
    ]
    RESULTS.write_text("\n".join(texts))


if __name__ == "__main__":
    main()
