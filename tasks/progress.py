"""Progress of long work: a Prefect artifact, log lines, and a bar where a person looks at a terminal."""

import sys
import time
from contextlib import closing
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from storage.shards import ShardedStore
from tasks.artifacts import artifact_key, key_of
from tasks.running.shards import Events

ARTIFACT_SECONDS = 2.0
"""The server should not be asked more often than this."""
LOG_SECONDS = 15.0


def announced(ref: str) -> str:
    """The reference of a result, said in the run's log, where people look for what to name next."""
    get_run_logger().info("result: %s", ref)
    return ref


def follow(events: Events, store: ShardedStore, title: str) -> None:
    """Consume the events of ``map_shards`` and show them."""
    pending = {shard.index: shard.stop - shard.start for shard in store.pending()}
    fractions = dict.fromkeys(pending, 0.0)
    skipped = store.n - sum(pending.values())
    with closing(events), Meter(title, store.uri, total=store.n, skipped=skipped) as meter:
        for event in events:
            fractions[event.shard] = max(fractions[event.shard], event.fraction)
            if event.error:
                meter.log.warning("%s: shard %d failed: %s", title, event.shard, event.error)
            meter.show(skipped + sum(share * pending[index] for index, share in fractions.items()))


class Meter:
    """A bar on a terminal, log lines elsewhere, and an artifact of the run, keyed by what is made."""

    def __init__(self, title: str, uri: str, *, total: int, skipped: int) -> None:
        self.title, self.total, self.skipped = title, total, skipped
        self.log = get_run_logger()
        self.start = self.last_artifact = self.last_log = time.monotonic()
        self.artifact = progress_artifact(uri, title, 100 * skipped / total)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, disable=not sys.stderr.isatty(), transient=False)
        self.task = self.bar.add_task(title, total=total, completed=skipped)

    def __enter__(self) -> "Meter":
        done = f", {self.skipped} are done already" if self.skipped else ""
        self.log.info("%s: %d slices%s", self.title, self.total, done)
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.stop()
        done = float(self.bar.tasks[0].completed)
        if kind is not None and not issubclass(kind, Exception):
            # Stopped by a person or the system: nothing may delay the end.
            return
        update_progress_artifact(self.artifact, progress=min(100.0, 100 * done / self.total))
        self.log.info("%s: %.0f of %d slices after %.0f s", self.title, done, self.total, time.monotonic() - self.start)

    def show(self, done: float) -> None:
        now = time.monotonic()
        self.bar.update(self.task, completed=done)
        if now - self.last_artifact > ARTIFACT_SECONDS:
            self.last_artifact = now
            update_progress_artifact(self.artifact, progress=min(100.0, 100 * done / self.total))
        if self.bar.disable and now - self.last_log > LOG_SECONDS:
            self.last_log = now
            self.log.info("%s: %.1f of %d slices, %s", self.title, done, self.total, self._left(done, now))

    def _left(self, done: float, now: float) -> str:
        new = done - self.skipped
        # The first moments go into starting workers and tell nothing.
        if new < 0.01 * self.total:
            return "time left unknown"
        return f"about {(now - self.start) * (self.total - done) / new:.0f} s left"


def progress_artifact(uri: str, title: str, percent: float = 0.0) -> UUID:
    """A new progress bar on the page of the run that makes the result at a URI."""
    created = create_progress_artifact(percent, key=artifact_key(key_of(uri), "progress"), description=title)
    if not isinstance(created, UUID):
        raise TypeError(f"Prefect returned {created!r} for a progress artifact")
    return created
