"""Processes that each do what a command does, started in a moment from a server that has everything imported."""

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Event
from random import Random
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import psutil

from tasks.running.mistakes import explain

PATIENCE_SECONDS = 300.0
"""A command that takes longer hangs."""

LAZY = ("scipy.interpolate", "scipy.ndimage", "scipy.sparse", "pywt", "skimage.metrics", "matplotlib.pyplot", "optuna")
"""Packages that the stages import when they need them."""

ROUND = "SCOREINV_CHAOS_ROUND"
"""The environment variable by which the processes of a round are known."""

LOG = "SCOREINV_CHAOS_LOG"
"""The environment variable that names the file of all that a process says; without it nothing is kept."""


class Call(NamedTuple):
    """What a process does: it sets its environment, is hurt, and works."""

    work: Callable[[], Any]
    environment: Mapping[str, str] = MappingProxyType({})
    before: tuple[Callable[[], object], ...] = ()
    """Called first: what goes wrong within the process itself."""


class Said(NamedTuple):
    """How a command ended, and its last words."""

    how: Literal["done", "killed", "explained", "fault", "hangs"]
    text: str = ""


class Command:
    """A process that waits for a gate to open."""

    def __init__(self, call: Call, gate: Event) -> None:
        self.receiver, sender = context().Pipe(duplex=False)
        self.process = context().Process(target=_work, args=(call, gate, sender))
        self.process.start()
        sender.close()
        with suppress(EOFError):
            self.receiver.recv()

    @property
    def pid(self) -> int:
        return int(self.process.pid or 0)

    def family(self, word: str = "") -> list[psutil.Process]:
        """The processes that it started and these started, of which a word is in the command line."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid).children(recursive=True)
            return [one for one in found if word in _words(one)]
        return []

    def kill(self, word: str = "", *, after: float = 0.0) -> bool:
        """SIGKILL, after some seconds, to it or to a process of its family; whether there was anything to kill."""
        self.process.join(after)
        if word:
            return _is_killed(self.family(word)[:1])
        if self.process.exitcode is not None:
            return False
        self.process.kill()
        return True

    def said(self, patience: float = PATIENCE_SECONDS) -> Said:
        """How it ended, once it has; it hangs if it takes longer than so many seconds."""
        self.process.join(patience)
        if self.process.is_alive():
            self.process.kill()
            return Said("hangs", f"hangs for {patience:.0f} s")
        try:
            return Said(*self.receiver.recv())
        except EOFError:
            code = self.process.exitcode
            return Said("killed") if code == -signal.SIGKILL else Said("fault", f"ended with exit code {code}")


@cache
def context() -> ForkServerContext:
    """Of all processes here; the server of processes is started with the first of them, which is not part of it."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["benchmarks.chaos.study", *LAZY])
    first = made.Process(target=int)
    first.start()
    first.join()
    return made


def started(calls: Sequence[Call]) -> list[Command]:
    """Processes that begin in the same moment."""
    gate = context().Event()
    commands = [Command(call, gate) for call in calls]
    gate.set()
    return commands


def kill_some(commands: Sequence[Command], seconds: float, chance: Random) -> int:
    """Kill each with a chance of one half, some time within so many seconds; how many were killed."""
    times = sorted((chance.uniform(0, seconds), i) for i in range(len(commands)) if chance.random() < 0.5)
    start, n = time.monotonic(), 0
    for moment, i in times:
        time.sleep(max(0.0, start + moment - time.monotonic()))
        n += commands[i].kill()
    return n


def _is_killed(processes: Sequence[psutil.Process]) -> bool:
    with suppress(psutil.Error):
        for one in processes:
            one.kill()
        return bool(processes)
    return False


def _words(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _work(call: Call, gate: Event, sender: Connection) -> None:
    os.environ.update(call.environment)
    log = os.open(os.environ.get(LOG, os.devnull), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    tempfile.tempdir = call.environment.get("TMPDIR")
    sender.send("ready")
    gate.wait()
    try:
        for hurt in call.before:
            hurt()
        sender.send(("done", " ".join(call.work() or ())))
    except Exception as error:
        message = explain(error)
        sender.send(("explained", message) if message else ("fault", f"{type(error).__name__}: {error!r}"))
