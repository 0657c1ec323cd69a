"""Commands of scoreinv as others see them: how long they take, what their processes compute and hold."""

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from scoreinv.spec import Spec

LOOK_SECONDS = 0.3
MEMORY_TEXT = "GiB of each process, at a quarter, at half and at the end of its life, and at most:\n"
MEMORY_HEAD = "process | 1/4 | 1/2 | end | most"


class Run(NamedTuple):
    """A command: seconds that passed, CPU seconds of its processes, and GiB of each now and then."""

    seconds: float
    cpu: float
    memory: dict[str, list[float]]


def watched(
    command: str,
    recipe: Spec,
    workspace: str | Path,
    folder: Path,
    is_over: Callable[[], bool] = lambda: False,
    *,
    n_workers: int = 2,
) -> Run:
    """Run a command to its end, or until something is so, and look at its processes meanwhile.

    Args:
        command: of scoreinv.
        recipe: for it; written into the folder.
        workspace: where it runs.
        folder: of ours.
        is_over: the command is ended when this is so.
        n_workers: of its cluster.
    """
    path = folder / f"{command}.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    call = [sys.executable, "-m", "flows.cli", command, str(path), "--workspace", str(workspace)]
    call += [] if command == "report" else ["--workers", str(n_workers)]
    start, next_look, before = time.perf_counter(), 0.0, os.times()
    process = psutil.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds: dict[int, float] = {}
    memory: dict[str, list[float]] = defaultdict(list)
    ended = False
    while process.poll() is None and not (ended := is_over()):
        if time.perf_counter() >= next_look:
            next_look = time.perf_counter() + LOOK_SECONDS
            look_at(process, seconds, memory)
        time.sleep(0.02)
    passed = time.perf_counter() - start
    if process.poll() is None:
        look_at(process, seconds, memory)
        process.terminate()
    if process.wait() and not ended:
        raise RuntimeError(f"{' '.join(call)} ended with exit code {process.wait()}")
    after = os.times()
    # A look misses the end of each process; those that were ended here are waited for by nobody.
    waited = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(passed, max(waited, sum(seconds.values())), dict(memory))


def look_at(command: psutil.Process, seconds: dict[int, float], memory: dict[str, list[float]]) -> None:
    """Note how long each process of a command has computed, and what it holds now."""
    for process in [command, *command.children(recursive=True)]:
        try:
            words, times = process.cmdline(), process.cpu_times()
            seconds[process.pid] = times.user + times.system
            module = next((word for word in words if word.startswith(("flows.", "tasks.", "storage."))), "other")
            worker = f" {words[words.index('--name') + 1]}" if "--name" in words else ""
            name = module.rpartition(".")[2] + worker
            memory[name].append(process.memory_info().rss / 2**30)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            pass


def memory_rows(name: str, memory: dict[str, list[float]]) -> list[list[str]]:
    """Of every process that lived for a while, under ``MEMORY_HEAD``."""
    held = {process: one for process, one in sorted(memory.items()) if len(one) > 8}
    places = {process: [one[int(share * (len(one) - 2))] for share in (0.25, 0.5, 1)] for process, one in held.items()}
    return [[f"{name}, {p}", *(f"{one:.2f}" for one in [*places[p], max(held[p])])] for p in held]


def table(head: str, rows: list[list[Any]]) -> str:
    """As Markdown; columns but the first are numbers."""
    line = "| --- |" + " ---: |" * head.count("|")
    return "\n".join([f"| {head} |", line, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
