"""Train a prior: launch torchrun, stream its log, stop it with the flow."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from storage.shards import ShardedStore
from storage.uri import exists, join, read_json, write_json
from tasks.recipes import TrainRecipe
from tasks.shards import Execution
from tasks.workers.launch import PARENT, reason_path
from tasks.workers.train import TrainJob
from tasks.workspace import locate, reference

GRACE_SECONDS = 20.0
"""How long a training may take to end before it is killed."""


@task(name="train")
def train(recipe: TrainRecipe, execution: Execution) -> str:
    """The reference of the trained prior; goes on from its checkpoint where there is one.

    Raises:
        RuntimeError: if the training ended with an error, which is in the message.
    """
    ref, log = reference("priors", recipe.address()), get_run_logger()
    target = join(execution.workspace, ref)
    if is_trained(target, recipe.training.n_images):
        log.info("%s has seen %d images: nothing to do", ref, recipe.training.n_images)
        return ref
    job = TrainJob(
        recipe=recipe,
        datasets=tuple(locate(execution.workspace, d, "datasets") for d in recipe.datasets),
        target=target,
        n_threads=execution.training.n_threads,
        device=execution.device,
    )
    for uri in job.datasets:
        ShardedStore.open(uri)
    _follow(torchrun(job, execution.training.n_processes), f"Training {ref}")
    write_json(join(target, "recipe.json"), recipe.model_dump(mode="json"))
    return ref


def is_trained(target: str, n_images: int) -> bool:
    """Whether the prior in a folder has seen so many images and has its card."""
    prior = join(target, "prior")
    if not exists(join(prior, "card.md")) or not exists(join(prior, "contract.json")):
        return False
    return int(read_json(join(prior, "contract.json"))["images_seen"]) >= n_images


def torchrun(job: TrainJob, n_processes: int) -> Iterator[str]:
    """Yield the lines that a training prints; ending the loop early ends the training.

    Raises:
        RuntimeError: if it fails; the message is the error of the process that failed first.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(job.model_dump_json())
        process = _start(path, n_processes)
        last = deque[str](maxlen=5)
        try:
            for line in process.stdout or ():
                last.append(line.rstrip())
                yield last[-1]
            code = process.wait()
        finally:
            _stop(process)
        if code:
            raise RuntimeError(_failure(reason_path(path), code, last))


def progress_of(line: str) -> float | None:
    """The percentage that a line "images N of M ..." of a training tells; None for other lines."""
    found = re.match(r"images (\d+) of (\d+)\b", line)
    return min(100.0, 100 * int(found[1]) / int(found[2])) if found else None


def _follow(lines: Iterator[str], title: str) -> None:
    artifact, log = create_progress_artifact(0.0, description=title), get_run_logger()
    with closing(lines):  # type: ignore[type-var]
        for line in lines:
            log.info(line)
            percent = progress_of(line)
            if percent is not None and isinstance(artifact, UUID):
                update_progress_artifact(artifact, progress=percent)


def _start(job: Path, n_processes: int) -> "subprocess.Popen[str]":
    # Gloo looks up this machine's name otherwise, which fails where no name server knows it.
    loopback = "lo" if sys.platform == "linux" else "lo0"
    defaults = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback}
    return subprocess.Popen(
        [sys.executable, "-m", "tasks.workers.launch", "group", str(job), str(n_processes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**defaults, **os.environ, "PYTHONUNBUFFERED": "1", PARENT: str(os.getpid())},
    )


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _failure(reason: Path, code: int, last: deque[str]) -> str:
    if reason.exists():
        return f"the training failed: {reason.read_text()}"
    return "\n".join([f"the training ended with exit code {code}, perhaps out of memory; its last lines:", *last])
