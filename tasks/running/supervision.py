"""Keep the worker processes of this machine alive: start as many as are wanted, and others for those that end.

A worker that ends before it is ready is started again a few times, as somebody may have killed it or memory may have
been short for a moment. When no worker can be started any more, whoever waits is told why.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tasks.running.processes import Child, stop

TRIES = 3
"""So often in a row a worker may end before it is ready, and is started again until then."""

PAUSE_SECONDS = 1.0
"""Before the second try; before the third it is twice as long."""

START_SECONDS = 240.0
"""How long a worker may take until it is ready: torch comes slowly from a disk that many read."""

LOOK_SECONDS = 0.1

LOGGER = logging.getLogger(__name__)


class _Place:
    """The place of one worker: who holds it, and what became of those before."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.child: Child | None = None
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
    """Looks after worker processes in a thread of its own, while its block ``looking_after`` lasts."""

    def __init__(self, launch: Callable[[int, str], Child]) -> None:
        """``launch(index, folder)`` starts a worker; ``folder`` is a temporary one for all of them."""
        self._launch = launch
        self._wanted = 0
        self._is_over = threading.Event()
        self._places: list[_Place] = []

    def want(self, n_workers: int) -> None:
        """Have at least so many workers from now on."""
        self._wanted = max(self._wanted, n_workers)

    @contextmanager
    def looking_after(self, give_up: Callable[[str], None]) -> Iterator[None]:
        """A block in which workers run; ``give_up`` is called with the reason when none can be started any more."""
        thread = threading.Thread(target=self._run, args=(give_up,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _run(self, give_up: Callable[[str], None]) -> None:
        # A folder only when there is a worker to remove it, should this process be killed.
        while self._wanted == 0:
            if self._is_over.wait(LOOK_SECONDS):
                return
        with tempfile.TemporaryDirectory(prefix="scoreinv-dask-", ignore_cleanup_errors=True) as folder:
            try:
                self._keep(folder, give_up)
            except Exception as error:
                give_up(f"{type(error).__name__}: {error}")
                raise
            finally:
                stop([place.child.process for place in self._places if place.child is not None])

    def _keep(self, folder: str, give_up: Callable[[str], None]) -> None:
        while not self._is_over.wait(LOOK_SECONDS):
            self._places += [_Place(index) for index in range(len(self._places), self._wanted)]
            for place in self._places:
                if not place.is_given_up:
                    self._look_at(place, folder)
            if all(place.is_given_up for place in self._places):
                give_up(_why(self._places))
                return

    def _look_at(self, place: _Place, folder: str) -> None:
        child = place.child
        if child is None:
            if time.monotonic() >= place.next_start:
                self._start(place, folder)
        elif child.is_alive:
            if not child.is_ready and time.monotonic() - child.started > START_SECONDS:
                child.process.kill()
                place.n_failed = TRIES
                place.failed(f"it was not ready after {START_SECONDS:.0f} s and was stopped; {child.failure()}")
        elif child.is_ready:
            place.child, place.n_failed = None, 0
            place.next_start = child.started + PAUSE_SECONDS
        else:
            place.failed(child.failure())
        if place.is_given_up and not all(other.is_given_up for other in self._places):
            LOGGER.warning("worker %d could not start, the others go on: %s", place.index + 1, place.reason)

    def _start(self, place: _Place, folder: str) -> None:
        try:
            place.child = self._launch(place.index, folder)
        except OSError as error:  # no more processes, or no memory for one
            place.failed(f"the system refused it: {error}")


def _why(places: Sequence[_Place]) -> str:
    reason = places[-1].reason
    advice = "give it more memory, or use fewer workers (--workers)" if "SIGKILL" in reason else ""
    advice = advice or "SCOREINV_TRACEBACK=1 shows all it said"
    return f"no worker process can start on this machine, after {TRIES} tries: {reason}\n{advice}"
