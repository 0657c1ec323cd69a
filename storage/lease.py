"""Who works on a folder that only one process may fill: a lease, on any file system and in any bucket.

A lease is a chain of files that are only ever created, each under the condition that there is none, and never removed::

    lease/1.json    the first owner: its token, machine, process, software, since when
    lease/1.beat    a counter, which the owner alone replaces, every BEAT_SECONDS
    lease/1.over    that it is over: put by its owner, or by whoever has seen the owner dead
    lease/2.json    the second owner ...

The newest number holds the lease until it is over. Of several that come at once one creates the next number; whose
token lies there has it, so that a lost answer, or a bucket without conditions, is no riddle.

An owner is dead when its process on this machine is gone, which is seen at once; anywhere, when its beat stands still
for EXPIRY_SECONDS. Nobody compares clocks: an observer counts the time between its own looks, and of a leap of its
clock, or a sleep of its machine, a look's worth. So no leap ends a living lease or keeps a dead one.

An owner that was only stopped (SIGSTOP, a laptop that sleeps) finds itself outlived when it wakes, at its next beat or
``require``. What it writes between waking and noticing does no harm: shards are put whole, before their marker, what is
in them follows from the recipe, and a shard that is done is left as it is; ``finish`` and checkpoints ask first.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple, Self
from uuid import uuid4

import scoreinv
from storage.errors import LeaseLost, StoreHeld
from storage.processes import is_hidden, started_at, this_machine
from storage.uri import (
    create_bytes,
    is_local,
    join,
    json_bytes,
    list_names,
    read_bytes,
    remove_unfinished,
    write_bytes,
)

BEAT_SECONDS = 20.0
"""An owner says so often that it is alive, and looks whether the lease is still its own."""

EXPIRY_SECONDS = 120.0
"""After so long without a beat an owner is taken for dead: a slow disk or network may cost it a few."""


def look_seconds(uri: str) -> float:
    """How long an observer waits between two looks, each of which is two requests."""
    return 0.5 if is_local(uri) else 5.0


class Owner(NamedTuple):
    """A process that holds a lease."""

    token: str
    host: str
    machine: str
    """Where numbers of processes mean the same: a host since it was started, or a container on it."""
    pid: int
    started: float
    """When the process was started, as ``started_at`` says: numbers of processes come again."""
    software: str
    since: str
    """For people: nothing is decided by it."""

    @classmethod
    def here(cls) -> Self:
        """This process, with a new token."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        pid, software = os.getpid(), f"scoreinv {scoreinv.__version__}"
        started = started_at(pid) or 0.0
        return cls(uuid4().hex, socket.gethostname(), this_machine(), pid, started, software, since)

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.machine == this_machine()

    @property
    def is_gone(self) -> bool:
        """Whether it has ended, as far as this machine knows."""
        if not self.is_here:
            return False
        started = started_at(self.pid)
        return not is_hidden(self.pid) if started is None else abs(started - self.started) > 1

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Watch:
    """One observer of a folder's lease: looks again and again who holds it, and so sees whether the owner lives."""

    def __init__(self, uri: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.uri = uri
        self.number = 0
        """The newest of the chain at the last look."""
        self.has_seen_life = False
        """Whether the owner is known to live, rather than not known to be dead."""
        self._clock = clock
        self._last = clock()
        self._silence = 0.0
        self._seen: tuple[int, bytes] | None = None
        self._known: tuple[int, Owner | None] = (0, None)

    def owner(self) -> Owner | None:
        """Who holds the lease; None if nobody does: nobody ever did, or the last one has left, or is dead."""
        names = list_names(join(self.uri, "lease"))
        self.number = _newest(names)
        if self.number == 0 or f"{self.number}.over" in names:
            return None
        if self._known[0] != self.number:
            self._known = (self.number, _read_owner(self.uri, self.number))
        owner = self._known[1]
        if owner is None or owner.is_gone or self._is_silent(names):
            create_bytes(_file(self.uri, self.number, "over"), b"it was seen dead\n")
            return None
        self.has_seen_life = self.has_seen_life or owner.is_here
        return owner

    def _is_silent(self, names: list[str]) -> bool:
        is_beating = f"{self.number}.beat" in names
        seen = (self.number, read_bytes(_file(self.uri, self.number, "beat")) if is_beating else b"")
        now = self._clock()
        if seen != self._seen:
            self.has_seen_life = self._seen is not None and seen[0] == self._seen[0]
            self._seen, self._silence = seen, 0.0
        else:
            # So that an owner, which may have slept as well, has the time of two beats before it counts as dead.
            longest = EXPIRY_SECONDS * look_seconds(self.uri) / (2 * BEAT_SECONDS)
            self._silence += min(max(now - self._last, 0.0), longest)
        self._last = now
        return self._silence > EXPIRY_SECONDS


class Lease:
    """A lease that this process has taken; while it is open, a thread beats for it."""

    def __init__(self, uri: str, number: int, owner: Owner) -> None:
        self.uri = uri
        self.number = number
        self.owner = owner
        self.before = _read_owner(uri, number - 1) if number > 1 else None
        """Who had it last, if anybody had."""
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._beating = threading.Thread(target=self._beat, name=f"lease of {uri}", daemon=True)

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it to others. What fails here hides no other error: a lease without beats ends by itself."""
        self._stop.set()
        self._beating.join(BEAT_SECONDS)
        with suppress(Exception):
            create_bytes(_file(self.uri, self.number, "over"), b"its owner left\n")
            remove_unfinished(self.uri)

    def refuse_lost(self) -> None:
        """Refuses to go on if the last beat found that the lease was taken over; asks nobody.

        Raises:
            LeaseLost: saying so.
        """
        if self._lost.is_set():
            raise LeaseLost(
                f"{self.uri} was taken over while this process ({self.owner}) gave no sign of life for "
                f"{EXPIRY_SECONDS:.0f} s: the same command again follows whoever works on it now"
            )

    def require(self) -> None:
        """Refuses to go on if the lease is no longer this process's; looks at the files.

        Raises:
            LeaseLost: saying so.
        """
        if not self._is_mine() or _token(self.uri, self.number) != self.owner.token:
            self._lost.set()
        self.refuse_lost()

    def _is_mine(self) -> bool:
        names = list_names(join(self.uri, "lease"))
        return _newest(names) == self.number and f"{self.number}.over" not in names

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(BEAT_SECONDS):
            # A disk that is full or a network that is down for a while may be back before the lease expires.
            with suppress(Exception):
                if not self._is_mine():
                    self._lost.set()
                    return
                count += 1
                write_bytes(_file(self.uri, self.number, "beat"), f"{count}\n".encode())


def take(uri: str) -> Lease | None:
    """The lease of a folder, to be entered; None if another process has it."""
    watch, mine = Watch(uri), Owner.here()
    if watch.owner() is not None:
        return None
    number = watch.number + 1
    create_bytes(_file(uri, number, "json"), json_bytes(mine._asdict()))
    return Lease(uri, number, mine) if _token(uri, number) == mine.token else None


@contextmanager
def leased(uri: str) -> Iterator[Lease]:
    """A block in which this process alone works on a folder.

    Raises:
        StoreHeld: if another process does; says which one.
    """
    lease = take(uri)
    if lease is None:
        refuse_held(uri)
        raise StoreHeld(f"another process has just begun to work on {uri}: run the same command again")
    with lease:
        yield lease


def refuse_held(uri: str) -> None:
    """Refuses a folder that another process works on.

    Raises:
        StoreHeld: saying which one.
    """
    owner = Watch(uri).owner()
    if owner is not None:
        raise StoreHeld(held_text(uri, owner))


def held_text(uri: str, owner: Owner) -> str:
    """Who works on a folder, and what to do."""
    return (
        f"{owner} works on {uri}: wait for it or end it, then run the same command again, which goes on from there "
        f"(if there is no such process any more, its lease ends within {EXPIRY_SECONDS / 60:g} minutes)"
    )


def _newest(names: list[str]) -> int:
    numbers = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _file(uri: str, number: int, kind: str) -> str:
    return join(uri, "lease", f"{number}.{kind}")


def _read_owner(uri: str, number: int) -> Owner | None:
    """None if it is damaged."""
    try:
        found = json.loads(read_bytes(_file(uri, number, "json")))
        # A later version may keep more.
        return Owner(**{name: found[name] for name in Owner._fields})
    except (ValueError, KeyError, TypeError):
        return None


def _token(uri: str, number: int) -> str:
    owner = _read_owner(uri, number)
    return owner.token if owner else ""
