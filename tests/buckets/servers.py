"""Servers of buckets for tests: processes of our own on this machine, with a log of what they were asked."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_REQUEST = re.compile(r'"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP')


class Request(NamedTuple):
    """What a server was asked."""

    method: str
    path: str


class Server(NamedTuple):
    """A server that runs, and the file it writes a line for each request into."""

    endpoint: str
    log: Path

    def requests(self) -> list[Request]:
        """Everything that it was asked so far."""
        return [Request(*found) for found in _REQUEST.findall(self.log.read_text())]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, log: Path, *, seconds: float = 60.0, **options: object) -> Iterator[Server]:
    """A block in which a server runs that listens on this port."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, **options)  # type: ignore[call-overload]
    try:
        wait_for(port, process, log, seconds=seconds)
        yield Server(f"http://127.0.0.1:{port}", log)
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path, *, seconds: float) -> None:
    """Return when somebody listens on this port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nobody listens on {port} after {seconds:g} s: {log.read_text()[-2000:]}")


@contextmanager
def moto(folder: Path) -> Iterator[Server]:
    """A block in which moto's S3 runs, which accepts every key and forgets everything at its end."""
    port = free_port()
    with running(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, folder / "moto"
    ) as it:
        yield it
