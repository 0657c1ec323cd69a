"""Processes of tests on free ports of this machine, and waiting for them."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

WAIT_SECONDS = 600


def free_ports(n: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as opened:
        listening = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [one.getsockname()[1] for one in listening]


@contextmanager
def process(
    command: list[str], log: Path, cwd: Path, environment: dict[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    """A block in which a command runs, with its words in a file."""
    with log.open("w") as words:
        # A shell's background jobs ignore SIGINT, by which a worker tells itself to end; those of an engine do not.
        started = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=words, stderr=words, preexec_fn=_heed_interrupts
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(60)
        except subprocess.TimeoutExpired:
            started.kill()
            raise


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(holds: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS) -> float:
    """Wait until this holds; the seconds that it took."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() < begin + seconds, f"{what}: not within {seconds:g} s"
        time.sleep(0.5)
    print(f"{what} after {time.monotonic() - begin:.0f} s")
    return time.monotonic() - begin


def answers(url: str) -> bool:
    """Whether a server is up."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False
