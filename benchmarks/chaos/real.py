"""The real command, with its own Prefect server and Dask workers, and what is killed of them."""

import os
import sys
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from benchmarks.chaos import study
from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command, Said
from scoreinv.baselines import Direct
from tasks.recipes import PipelineRecipe, Reconstruction, Study

ROLES = {"flows.prefect_server": "own server killed", "tasks.workers.serve": "worker killed"}


def recipe(prior: str) -> PipelineRecipe:
    """The study of the other kinds, as a pipeline."""
    by = (
        Reconstruction(method=Direct()),
        Reconstruction(method=study.SAMPLER, prior=prior, n_samples=2, seed=5),
    )
    one = Study(name="tiny", ingest=study.INGEST, simulation=study.SIMULATION, reconstructions=by)
    return PipelineRecipe(title="Tiny", studies=(one,), n_pictures=1)


class Real(Bench):
    """`scoreinv pipeline`; it is killed, or its server, or one of its workers."""

    kind = "command"
    stages = ("pipeline",)
    is_traced = False

    def work(self, task: study.Task) -> Callable[[], Any]:
        path = self.folder / "recipe.json"
        path.write_text(recipe(self.prior).model_dump_json())
        options = ["--workspace", task.workspace, "--workers", "1", "--batch-size", "2"]
        return partial(become, ["pipeline", str(path), *options])

    def run(self, *arguments: Any, **options: Any) -> list[Said]:
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        (said,) = super().run(*arguments, **options)
        self.said[-1] = said_in(log.read_text() if log.exists() else "", said)
        return self.said[-1:]

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 3)):
            self.run(1, partial(self._kill, chance))

    def _kill(self, chance: Random, commands: list[Command]) -> None:
        commands[0].process.join(chance.uniform(0, self.seconds[self.stage]))
        role = chance.choice([*ROLES, "", ""])
        self.faults[ROLES.get(role, "command killed")] += commands[0].kill(role)


def become(arguments: list[str]) -> None:
    """The real command in place of this process."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {"PYTHONPATH": os.getcwd(), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300"}
    os.execv(sys.executable, [sys.executable, "-m", "flows.cli", *arguments])


def said_in(log: str, said: Said) -> Said:
    """How a real command ended, from its exit code and its log."""
    if said.how in ("killed", "hangs") or said.text.endswith("exit code 0"):
        return Said("done") if said.text.endswith("exit code 0") else said
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    is_fault = "Traceback (most recent call last)" in log or not errors or "fault of scoreinv" in errors[-1]
    return Said("fault", log[-1500:]) if is_fault else Said("explained", errors[-1])
