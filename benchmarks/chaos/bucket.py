"""A workspace in a bucket whose server dies in the middle: for a while, or with all that it held."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random
from unittest.mock import patch

import boto3

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command
from tests.buckets.proxy import Fault, failing
from tests.buckets.s3 import make_bucket, s3_environment
from tests.buckets.servers import free_port, wait_for


class Bucket(Bench):
    """Commands against a server that is away for a while, fails some requests, or is killed with all it held."""

    kind = "bucket"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port, self.is_down, self.failing, self.server = free_port(), False, 0.0, None
        self.chance = Random(0)
        self._start_server()
        self.resources.callback(self._end_server)
        proxy = self.resources.enter_context(failing(f"http://127.0.0.1:{self.port}", self._fault))
        self.resources.enter_context(patch.dict(os.environ, s3_environment(proxy.endpoint)))
        self.bucket = make_bucket()

    server: "subprocess.Popen[bytes] | None"

    def where(self) -> str:
        return f"{self.bucket}/{self.mark}"

    def environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in s3_environment("")}

    def found(self) -> dict[str, str]:
        self._download()
        return super().found()

    def problems(self) -> list[tuple[str, str]]:
        self._download()
        return super().problems()

    def disturb(self, chance: Random) -> None:
        self.chance = chance
        for _ in range(chance.randint(1, 3)):
            self.run(1, partial(self._fail, chance))
            self.is_down, self.failing = False, 0.0

    def _fail(self, chance: Random, commands: list[Command]) -> None:
        commands[0].process.join(chance.uniform(0, self.seconds[self.stage]))
        kind = chance.choice(("bucket away", "bucket fails at times", "bucket lost", "command killed"))
        self.faults[kind] += 1
        if kind == "command killed":
            commands[0].kill()
        elif kind == "bucket fails at times":
            self.failing = 0.2
        elif kind == "bucket lost":
            self._end_server()
            self._start_server()
            make_named(self.bucket)
        else:
            self.is_down = True
            commands[0].process.join(chance.uniform(0, 15))
            self.is_down = chance.random() < 0.5

    def _fault(self, number: int, method: str, path: str) -> Fault:
        if self.is_down:
            return "reset"
        return ("503" if number % 2 else "reset") if self.chance.random() < self.failing else None

    def _start_server(self) -> None:
        log = self.folder / "moto"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with log.open("wb") as file:
            self.server = subprocess.Popen(command, stdout=file, stderr=file)
        wait_for(self.port, self.server, log, seconds=120)

    def _end_server(self) -> None:
        if self.server:
            self.server.kill()
            self.server.wait()

    def _download(self) -> None:
        client, name = boto3.client("s3"), self.bucket.removeprefix("s3://")
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=f"{self.mark}/"):
            for one in page.get("Contents", ()):
                path = self.workspace / one["Key"].removeprefix(f"{self.mark}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(client.get_object(Bucket=name, Key=one["Key"])["Body"].read())


def make_named(bucket: str) -> None:
    """The bucket of that name, as whoever looks after a server makes it anew."""
    boto3.client("s3").create_bucket(Bucket=bucket.removeprefix("s3://"))
