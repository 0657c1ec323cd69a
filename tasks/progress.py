"""Progress of long work: a Prefect artifact, log lines, and a bar where a person looks at a terminal."""

import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.artifacts import update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from storage.shards import ShardedStore
from tasks.artifacts import artifact_key
from tasks.running.shards import Events

ARTIFACT_SECONDS = 2.0
"""The server should not be asked more often than this."""
LOG_SECONDS = 15.0


def announced(ref: str) -> str:
    """The reference of a result, said in the run's log, where people look for what to name next."""
    get_run_logger().info("result: %s", ref)
    return ref


def say_if_done(store: ShardedStore, title: str) -> None:
    """Say in the run's log that a stage has nothing to do, where that is so."""
    if store.is_finished():
        get_run_logger().info("%s: all %d slices are done already", title, store.n)


def follow(events: Events, store: ShardedStore, title: str) -> None:
    """Consume the events of ``map_shards`` and show them."""
    pending = {shard.index: shard.stop - shard.start for shard in store.pending()}
    fractions = dict.fromkeys(pending, 0.0)
    skipped, n_before = store.n - sum(pending.values()), len(store.plan()) - len(pending)
    done, failed = set[int](), set[int]()
    with closing(events), Meter(title, store.uri, total=store.n, skipped=skipped) as meter:
        for event in events:
            fractions[event.shard] = max(fractions[event.shard], event.fraction)
            if event.error:
                failed.add(event.shard)
                meter.log.warning("%s: shard %d failed: %s", title, event.shard, event.error)
            elif event.fraction == 1:
                done.add(event.shard)
            n_done = n_before + len(done - failed)
            shards = f"shards: {n_done} done, {len(failed)} failed, {len(pending) - len(done | failed)} left"
            meter.show(skipped + sum(share * pending[index] for index, share in fractions.items()), shards)


class Meter:
    """A bar on a terminal, log lines elsewhere, and the progress on the page of the run that was started."""

    def __init__(self, title: str, uri: str, *, total: int, skipped: int) -> None:
        self.title, self.total, self.skipped = title, total, skipped
        self.log = get_run_logger()
        self.start = self.last_artifact = self.last_log = time.monotonic()
        # When the first slice was on its way, and how many were done then: starting workers tells nothing.
        self.first: tuple[float, float] | None = None
        self.shards = ""
        self.artifact = progress_artifact(title, 100 * skipped / total)
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
        done, now = float(self.bar.tasks[0].completed), time.monotonic()
        if kind is not None and not issubclass(kind, Exception):
            # Stopped by a person or the system: nothing may delay the end.
            return
        self._update(done, f"after {now - self.start:.0f} s")
        self.log.info("%s: %.0f of %d slices after %.0f s", self.title, done, self.total, now - self.start)

    def show(self, done: float, shards: str = "") -> None:
        """Show so many slices as done; ``shards`` says the same of the shards in words."""
        now = time.monotonic()
        self.first = self.first or (now, done)
        self.shards = shards
        self.bar.update(self.task, completed=done)
        if now - self.last_artifact > ARTIFACT_SECONDS:
            self.last_artifact = now
            self._update(done, self._pace(done, now))
        if self.bar.disable and now - self.last_log > LOG_SECONDS:
            self.last_log = now
            self.log.info("%s: %.1f of %d slices, %s", self.title, done, self.total, self._pace(done, now))

    def _update(self, done: float, pace: str) -> None:
        # What changes comes first: pages show the first words alone.
        said = [f"{done:.0f} of {self.total} slices: {self.title}", *([self.shards] if self.shards else []), pace]
        percent = min(100.0, 100 * done / self.total)
        update_progress_artifact(self.artifact, progress=percent, description="; ".join(said))

    def _pace(self, done: float, now: float) -> str:
        since, before = self.first or (now, done)
        if now == since or done <= before:
            return "time left unknown"
        per_second = (done - before) / (now - since)
        end = datetime.now(UTC) + timedelta(seconds=(self.total - done) / per_second)
        return f"{per_second:.3g} slices per second; ends about {end:%Y-%m-%d %H:%M} UTC"


def progress_artifact(title: str, percent: float = 0.0) -> UUID:
    """The one progress bar on the page of the run that was started, whichever of its stages asks."""
    run = UUID(flow_run.root_flow_run_id)
    # Its title on the page, so it is short.
    key = artifact_key("progress", str(run)[:8])
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
    with get_client(sync_client=True) as client:
        for found in client.read_artifacts(artifact_filter=wanted):
            client.update_artifact(found.id, ArtifactUpdate(data=percent, description=title))
            return found.id
        # Not of this task or stage: the page of a run shows what is its own.
        made = ArtifactCreate(type="progress", key=key, description=title, data=percent, flow_run_id=run)
        return client.create_artifact(made).id
