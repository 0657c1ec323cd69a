"""A Prefect server of one's own that is killed and started again on its database, and whose disk gets full."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from benchmarks.chaos import study
from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command, Said
from benchmarks.chaos.disk import fill, small_disk
from benchmarks.chaos.real import recipe
from flows.own_server import DATABASE, EPHEMERAL, launch, require_ready
from flows.pipeline import pipeline_flow
from tasks.running.cluster import Inline
from tasks.running.processes import Child
from tasks.running.shards import Execution
from tests.buckets.servers import free_port

READY_SECONDS = 300.0


class Server(Bench):
    """The flow of the pipeline with a Prefect server that is killed, or whose database has no space left."""

    kind = "server"
    stages = ("pipeline",)
    is_traced = False
    # Prefect asks a server that is gone again for a minute, at every step of a run.
    patience = 900.0

    def __init__(self, folder: Path) -> None:
        self.port, self.child = free_port(), None
        super().__init__(folder)
        self.home = folder / "home"
        self.is_mounted = self.resources.enter_context(small_disk(self.home, 131_072))
        self.resources.callback(self._end)

    def work(self, task: study.Task) -> Callable[[], Any]:
        return partial(run_flow, self.prior, task.workspace, f"http://127.0.0.1:{self.port}/api", str(self.home))

    def run(self, *arguments: Any, **options: Any) -> list[Said]:
        self._start()
        return super().run(*arguments, **options)

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 3)):
            self.run(1, partial(self._fail, chance))
            with suppress(FileNotFoundError):
                (self.home / "ballast").unlink()

    def _fail(self, chance: Random, commands: list[Command]) -> None:
        commands[0].process.join(chance.uniform(0, self.seconds[self.stage]))
        if self.is_mounted and chance.random() < 0.5:
            fill(self.home / "ballast", chance.choice((0, 0, 8, 64)))
            self.faults["disk of the database full"] += 1
            return
        self._end()
        self.faults["server killed"] += 1
        if chance.random() < 0.7:
            time.sleep(chance.uniform(0, 5))
            self._start()

    def _start(self) -> None:
        if self.child and self.child.process.poll() is None:
            return
        with socket.create_server(("127.0.0.1", self.port)) as listener:
            environment = EPHEMERAL | DATABASE | {"PREFECT_HOME": str(self.home), "TMPDIR": str(self.folder)}
            environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
            self.child = launch(str(self.home), environment, listener)
        require_ready(self.child, str(self.home), READY_SECONDS)

    def _end(self) -> None:
        if self.child:
            self.child.process.kill()
            self.child.process.wait()

    child: Child | None


def run_flow(prior: str, workspace: str, url: str, home: str) -> list[str]:
    """Run the pipeline's flow against a server."""
    with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
        execution = Execution(workspace=workspace, cluster=Inline(), batch_size=2)
        return [str(pipeline_flow(recipe(prior), execution))]
