"""Keep workers alive, processes of this machine or jobs of a queue: start as many as are wanted, and others for those
that end.

A worker that ends before it is ready is started again a few times, as somebody may have killed it or memory may have
been short for a moment. When no worker can be started any more, whoever waits is told why.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

TRIES = 3
"""So often in a row a worker may end before it is ready, and is started again until then."""

PAUSE_SECONDS = 1.0
"""Before the second try; before the third it is twice as long."""

START_SECONDS = 240.0
"""How long a worker may take until it is ready: torch comes slowly from a disk that many read."""

LOOK_SECONDS = 0.1

LOGGER = logging.getLogger(__name__)


class Startable(Protocol):
    """A worker that was started, as ``processes.Child`` and ``slurm.Job``."""

    started: float
    """By the clock of ``time.monotonic``."""

    @property
    def is_ready(self) -> bool:
        """Whether it got as far as taking work, also if it has ended since."""

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended, or waits to begin."""

    def failure(self) -> str:
        """How it ended, and its last words."""

    def kill(self) -> None:
        """End it at once."""


class Kind(NamedTuple):
    """How workers of a kind are started and ended."""

    launch: Callable[[int, str], Startable]
    """``launch(index, folder)`` starts a worker; ``folder`` is a temporary one of this machine for all of them."""
    stop: Callable[[Sequence[Startable]], None]
    """Ends workers, in order where there is time."""
    where: str
    """Where they run, as a reason says it."""
    start_seconds: float
    """How long one may take until it is ready."""
    advice: str
    """What whoever reads the reason may do."""


class _Place:
    """The place of one worker: who holds it, and what became of those before."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Startable | None = None
        self.next_start = 0.0
        self.n_failed = 0
        self.reason = ""

    @property
    def is_given_up(self) -> bool:
        return self.n_failed >= TRIES

    def failed(self, reason: str) -> None:
        self.child, self.reason, self.n_failed = None, reason, self.n_failed + 1
        self.next_start = time.monotonic() + PAUSE_SECONDS * self.n_failed


class Supervisor:
    """Looks after workers in a thread of its own, while its block ``looking_after`` lasts."""

    def __init__(self) -> None:
        self._wanted = 0
        self._is_over = threading.Event()
        self._places: list[_Place] = []

    def want(self, n_workers: int) -> None:
        """Have at least so many workers from now on."""
        self._wanted = max(self._wanted, n_workers)

    @contextmanager
    def looking_after(self, kind: Kind, give_up: Callable[[str], None]) -> Iterator[None]:
        """A block in which workers run; ``give_up`` is called with the reason when none can be started any more."""
        thread = threading.Thread(target=self._run, args=(kind, give_up), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _run(self, kind: Kind, give_up: Callable[[str], None]) -> None:
        # A folder only when there is a worker to remove it, should this process be killed.
        while self._wanted == 0:
            if self._is_over.wait(LOOK_SECONDS):
                return
        with tempfile.TemporaryDirectory(prefix="scoreinv-dask-", ignore_cleanup_errors=True) as folder:
            try:
                self._keep(kind, folder, give_up)
            except Exception as error:
                give_up(f"{type(error).__name__}: {error}")
                raise
            finally:
                kind.stop([place.child for place in self._places if place.child is not None])

    def _keep(self, kind: Kind, folder: str, give_up: Callable[[str], None]) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self._places += [_Place(index) for index in range(len(self._places), self._wanted)]
            for place in self._places:
                if not place.is_given_up:
                    self._look_at(place, kind, folder)
            if all(place.is_given_up for place in self._places):
                give_up(_why(self._places, kind))
                return

    def _look_at(self, place: _Place, kind: Kind, folder: str) -> None:
        child, seconds = place.child, kind.start_seconds
        if child is None:
            if time.monotonic() >= place.next_start:
                _start(place, kind, folder)
        elif child.is_alive:
            if not child.is_ready and time.monotonic() - child.started > seconds:
                child.kill()
                place.n_failed = TRIES
                place.failed(f"it was not ready after {seconds:.0f} s and was stopped; {child.failure()}")
        elif child.is_ready:
            place.child, place.n_failed = None, 0
            place.next_start = child.started + PAUSE_SECONDS
        else:
            place.failed(child.failure())
        if place.is_given_up and not all(other.is_given_up for other in self._places):
            LOGGER.warning("worker %d could not start, the others go on: %s", place.index + 1, place.reason)


def _start(place: _Place, kind: Kind, folder: str) -> None:
    try:
        place.child = kind.launch(place.index, folder)
    except OSError as error:  # no more processes, no memory for one, or a queue that refuses it
        place.failed(f"the system refused it: {error}")


def _why(places: Sequence[_Place], kind: Kind) -> str:
    reason = places[-1].reason
    advice = "give it more memory, or use fewer workers (--workers)" if "SIGKILL" in reason else kind.advice
    return f"no worker can start {kind.where}, after {TRIES} tries: {reason}\n{advice}"
