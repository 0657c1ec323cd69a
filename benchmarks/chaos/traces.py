"""How often each shard was computed: a line for every shard that a worker came to the end of."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tasks.evaluate
import tasks.ingest
import tasks.measure
import tasks.reconstruct
from tasks.workers import evaluate, ingest, measure, reconstruct

FILE = "SCOREINV_CHAOS_TRACES"
"""The environment variable that names the file."""


@contextmanager
def traced() -> Iterator[None]:
    """A block whose stages leave a line for every shard, also those that Dask workers compute."""
    with ExitStack() as undone:
        for module, work in PATCHES:
            undone.enter_context(patch.object(module, work.__name__, work))
        yield


def n_twice(path: Path) -> int:
    """How many shards were computed that had been computed before; lines may be cut off by a kill."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(Counter(lines).values()) - len(set(lines))


def ingest_shard(job: Any, index: int, report: Any) -> None:
    _then_noted(ingest.ingest_shard, job, index, report)


def measure_shard(job: Any, index: int, report: Any) -> None:
    _then_noted(measure.measure_shard, job, index, report)


def reconstruct_shard(job: Any, index: int, report: Any) -> None:
    _then_noted(reconstruct.reconstruct_shard, job, index, report)


def evaluate_shard(job: Any, index: int, report: Any) -> None:
    _then_noted(evaluate.evaluate_shard, job, index, report)


PATCHES: tuple[tuple[Any, Callable[..., None]], ...] = (
    (tasks.ingest, ingest_shard),
    (tasks.measure, measure_shard),
    (tasks.reconstruct, reconstruct_shard),
    (tasks.evaluate, evaluate_shard),
)


def _then_noted(work: Callable[..., None], job: Any, index: int, report: Any) -> None:
    work(job, index, report)
    if path := os.environ.get(FILE):
        with open(path, "a") as file:
            file.write(f"{job.target} {index}\n")
