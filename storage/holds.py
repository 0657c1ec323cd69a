"""Who works on a folder that only one process may change, as a training changes its checkpoint.

The holder leaves ``holder.json`` there: its machine, process, since when, and when it was last alive. It is taken over
from a process of this machine that is gone, and from one of another machine that has not been alive for minutes.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import uuid4

import psutil
from pydantic import ValidationError

from scoreinv.spec import Spec
from storage.errors import StoreError, StoreHeld
from storage.uri import delete, join, locked, read_json, write_json

BEAT_SECONDS = 20.0
"""A holder says so often that it is alive."""

DEAD_SECONDS = 300.0
"""After so long without a beat a holder on another machine is taken for dead; clocks may differ by minutes."""


class Holder(Spec):
    """A process that works on a folder."""

    token: str
    host: str
    pid: int
    started: float
    """When the process was started: numbers of processes come again."""
    since: float
    beat: float

    def is_gone(self) -> bool:
        """Whether it has ended, as far as it can be known from here."""
        if self.host != socket.gethostname():
            return time.time() - self.beat > DEAD_SECONDS
        try:
            started: float = psutil.Process(self.pid).create_time()
        except psutil.Error:
            return True
        return abs(started - self.started) > 1

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host} since {since}"


@contextmanager
def held(uri: str) -> Iterator[None]:
    """A block in which this process alone works on a folder.

    Raises:
        StoreHeld: if another process does; says which one.
    """
    mine = _hold(uri)
    stop = threading.Event()
    beating = threading.Thread(target=_beat, args=(uri, mine, stop), daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        with locked(uri):
            if _is_mine(uri, mine):
                delete(_file(uri))


def refuse_held(uri: str, *, patience: float = 0.0) -> None:
    """Refuses a folder that a process works on; of one that has just been killed a part may live on for a moment.

    Raises:
        StoreHeld: saying which process.
    """
    end = time.monotonic() + patience
    while (holder := _holder(uri)) is not None and not holder.is_gone():
        if time.monotonic() >= end:
            raise StoreHeld(_text(uri, holder))
        time.sleep(0.2)


def _hold(uri: str) -> Holder:
    now, process = time.time(), psutil.Process()
    mine = Holder(
        token=uuid4().hex,
        host=socket.gethostname(),
        pid=process.pid,
        started=process.create_time(),
        since=now,
        beat=now,
    )
    with locked(uri):
        refuse_held(uri)
        write_json(_file(uri), mine.model_dump(mode="json"))
    # In a bucket two may have come in the same moment; one of them is the last.
    if not _is_mine(uri, mine):
        refuse_held(uri)
    return mine


def _beat(uri: str, mine: Holder, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        with locked(uri):
            if _is_mine(uri, mine):
                write_json(_file(uri), mine.model_copy(update={"beat": time.time()}).model_dump(mode="json"))


def _is_mine(uri: str, mine: Holder) -> bool:
    holder = _holder(uri)
    return holder is not None and holder.token == mine.token


def _holder(uri: str) -> Holder | None:
    try:
        return Holder.model_validate(read_json(_file(uri)))
    except (StoreError, ValidationError):
        return None


def _file(uri: str) -> str:
    return join(uri, "holder.json")


def _text(uri: str, holder: Holder) -> str:
    return (
        f"{holder} works on {uri}: wait for it or end it, then run the same command again, which goes on from there "
        f"(if there is no such process any more, remove {_file(uri)})"
    )
