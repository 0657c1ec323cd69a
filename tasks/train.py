"""Train a prior: launch torchrun, stream its log, stop it with the flow."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from storage.shards import ShardedStore
from storage.uri import exists, join, read_json, write_json
from tasks.recipes import TrainRecipe
from tasks.shards import Execution
from tasks.workers.train import TrainJob
from tasks.workspace import locate, reference

GRACE_SECONDS = 20.0
"""How long a training may take to end before it is killed."""


@task(name="train")
def train(recipe: TrainRecipe, execution: Execution) -> str:
    """The reference of the trained prior; goes on from its checkpoint where there is one.

    Raises:
        RuntimeError: if the training ended with an error; its last lines are in the message.
    """
    ref = reference("priors", recipe.address())
    target = join(execution.workspace, ref)
    if _images_seen(target) >= recipe.training.n_images:
        get_run_logger().info("%s has seen %d images: nothing to do", ref, _images_seen(target))
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
    for line in torchrun(job, execution.training.n_processes):
        get_run_logger().info(line)
    write_json(join(target, "recipe.json"), recipe.model_dump(mode="json"))
    return ref


def torchrun(job: TrainJob, n_processes: int) -> Iterator[str]:
    """Yield the lines that a training prints; ending the loop early ends the training.

    Raises:
        RuntimeError: if it exits with an error.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(job.model_dump_json())
        process = _start(path, n_processes)
        last: list[str] = []
        try:
            for line in process.stdout or ():
                last = [*last[-19:], line.rstrip()]
                yield line.rstrip()
            code = process.wait()
        finally:
            _stop(process)
    if code:
        raise RuntimeError(f"the training ended with exit code {code}; its last lines:\n" + "\n".join(last))


def _start(job: Path, n_processes: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    environment = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONUNBUFFERED": "1", **os.environ}
    return subprocess.Popen(
        [*command, "--max-restarts=0", "-m", "tasks.workers.train", str(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment,
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


def _images_seen(target: str) -> int:
    contract = join(target, "prior", "contract.json")
    return int(read_json(contract)["images_seen"]) if exists(contract) else 0
