"""Dask workers that are killed, also while they start, and a scheduler that is killed and started again."""

import asyncio
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import psutil
import torch
from distributed import Scheduler, Worker

from benchmarks.chaos import traces
from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Call, Command, Said, started
from tasks.running.cluster import SLOT, LocalWorkers, RemoteWorkers
from tasks.running.shards import Execution
from tests.buckets.servers import free_port

STARTING_SECONDS = 2.0
"""A worker that is younger is still importing."""


class Workers(Bench):
    """A command with two workers of its own, which are killed one by one; in the end perhaps the command too."""

    kind = "workers"

    def execution(self) -> Execution:
        return Execution(cluster=LocalWorkers(n_workers=2), batch_size=2)

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 2)):
            self.run(1, partial(self._kill, chance))

    def _kill(self, chance: Random, commands: list[Command]) -> None:
        end = time.monotonic() + chance.uniform(0.5, 2) * self.seconds[self.stage]
        while time.monotonic() < end and commands[0].process.exitcode is None:
            time.sleep(chance.expovariate(1.0))
            if workers := commands[0].family("tasks.workers.serve"):
                with suppress(psutil.Error):
                    self._kill_one(chance.choice(workers))
        if chance.random() < 0.5:
            self.faults["command killed"] += commands[0].kill()

    def _kill_one(self, worker: psutil.Process) -> None:
        is_new = time.time() - worker.create_time() < STARTING_SECONDS
        worker.kill()
        self.faults["worker killed while it starts" if is_new else "worker killed"] += 1


class Remote(Bench):
    """A cluster that runs already, whose scheduler, workers or command are killed; it is started again by hand."""

    kind = "scheduler"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.cluster: list[Command] = []
        super().__init__(folder)
        self.resources.callback(self._end_cluster)

    def execution(self) -> Execution:
        return Execution(cluster=RemoteWorkers(address=f"tcp://127.0.0.1:{self.port}"), batch_size=2)

    def run(self, *arguments: Any, **options: Any) -> list[Said]:
        self._start_cluster()
        return super().run(*arguments, **options)

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 4)):
            self.run(1, partial(self._kill, chance))

    def _kill(self, chance: Random, commands: list[Command]) -> None:
        time.sleep(chance.uniform(0, self.seconds[self.stage]))
        names = ["scheduler killed", "worker killed", "worker killed"]
        name, victim = chance.choice([*zip(names, self.cluster, strict=True), ("command killed", commands[0])])
        self.faults[name] += victim.kill()

    def _start_cluster(self) -> None:
        if self.cluster and all(one.process.exitcode is None for one in self.cluster):
            return
        self._end_cluster()
        address, own = f"tcp://127.0.0.1:{self.port}", {traces.FILE: str(self.traces)}
        self.cluster = started([Call(partial(serve_scheduler, self.port), own)])
        folders = [str(self.folder / f"worker-{i}") for i in range(2)]
        self.cluster += started([Call(partial(serve_worker, address, one), own) for one in folders])

    def _end_cluster(self) -> None:
        for one in self.cluster:
            one.kill()
            one.process.join()
        self.cluster = []


def serve_scheduler(port: int) -> None:
    """Dask's own, until it is killed."""

    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=port, dashboard=False, dashboard_address="127.0.0.1:0") as one:
            await one.finished()

    asyncio.run(serve())


def serve_worker(address: str, folder: str) -> None:
    """Dask's own, with one slot, until it is killed or has lost its scheduler."""
    torch.set_num_threads(1)

    async def serve() -> None:
        options = {"nthreads": 1, "resources": {SLOT: 1}, "dashboard": False, "memory_limit": 0, "death_timeout": 20}
        async with Worker(address, host="127.0.0.1", local_directory=folder, **options) as one:
            await one.finished()

    asyncio.run(serve())
