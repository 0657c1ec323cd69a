"""Map a function over the shards of a store that are not done.

The function runs on a Dask worker (or here), writes one whole shard and returns a few numbers; arrays
never cross. What is done is what the store's markers say, so a run that was killed goes on where it
stopped, and a failed shard is redone by the same command.
"""

import os
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple

from distributed import Client, Future, get_worker
from pydantic import Field

from scoreinv.spec import Spec
from storage.shards import Shard, ShardedStore
from tasks.cluster import SLOT, AnyCluster, Inline, LocalWorkers, connect

TOPIC = "scoreinv-progress"


class Launch(Spec):
    """How many processes a training runs in."""

    n_processes: int = Field(1, ge=1, description="One per GPU; on CPUs one per socket.")
    n_threads: int = Field(2, ge=1, description="CPU threads of each process.")


class Execution(Spec):
    """How and where something is computed; never part of a digest."""

    workspace: str = Field("workspace", description="Folder or bucket that holds every result.")
    cluster: AnyCluster = Field(LocalWorkers(), title="Cluster")
    batch_size: int = Field(8, ge=1, description="Images per network call.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    training: Launch = Field(Launch(), title="Training processes")
    retries: int = Field(2, ge=0, description="How often a failed shard is tried again within one run.")
    max_failed: int = Field(0, ge=0, description="Failed shards that a run tolerates before it stops early.")


class ShardEvent(NamedTuple):
    """What happened to a shard: a share of it is done, it is done, or it failed for good."""

    shard: int
    fraction: float
    error: str | None = None


class TooManyFailures(RuntimeError):
    """More shards failed than the run tolerates; what is done is kept."""


Report = Callable[[float], None]
"""Called by a work function with the share of its shard that is done."""
Work = Callable[[Spec, int, Report], None]
"""(job, shard index, report) -> None; must be importable by name on the workers."""


def map_shards(work: Work, job: Spec, store: ShardedStore, execution: Execution) -> Iterator[ShardEvent]:
    """Yield events until every pending shard is done or has failed for good.

    Raises:
        TooManyFailures: when more than ``execution.max_failed`` shards have failed; names the first reasons.
    """
    pending = store.pending()
    if not pending:
        return
    errors: list[str] = []
    for event in _events(work, job, pending, execution):
        yield event
        if event.error is not None:
            errors.append(f"shard {event.shard}: {event.error}")
            if len(errors) > execution.max_failed:
                raise TooManyFailures(_failure_text(errors, store))


def _events(work: Work, job: Spec, pending: list[Shard], execution: Execution) -> Iterator[ShardEvent]:
    if isinstance(execution.cluster, Inline):
        yield from _inline(work, job, pending, execution.retries)
    else:
        with connect(execution.cluster) as client:
            yield from _on_dask(work, job, pending, client, execution.retries)


def _failure_text(errors: list[str], store: ShardedStore) -> str:
    shown = "; ".join(errors[:3]) + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")
    done = len(store.plan()) - len(store.pending())
    return f"{shown}. {done} of {len(store.plan())} shards of {store.uri} are done and kept: the same command redoes the rest"


def _inline(work: Work, job: Spec, pending: list[Shard], retries: int) -> Iterator[ShardEvent]:
    for shard in pending:
        for attempt in range(retries + 1):
            try:
                work(job, shard.index, _ignore)
            except Exception as error:
                if attempt == retries or isinstance(error, ValueError | TypeError):
                    yield ShardEvent(shard.index, 0.0, _reason(error))
                    break
            else:
                yield ShardEvent(shard.index, 1.0)
                break


def _on_dask(work: Work, job: Spec, pending: list[Shard], client: Client, retries: int) -> Iterator[ShardEvent]:
    events: SimpleQueue[ShardEvent | Future] = SimpleQueue()
    client.subscribe_topic(TOPIC, lambda event: events.put(ShardEvent(*event[1])))
    futures: dict[Future, int] = {}
    try:
        for shard in pending:
            key = f"shard-{shard.index}-{os.getpid()}-{time.monotonic_ns()}"
            future = client.submit(
                _on_worker, work, job, shard.index, key=key, resources={SLOT: 1}, retries=retries, pure=False
            )
            futures[future] = shard.index
            future.add_done_callback(events.put)
        yield from _collect(events, futures)
    finally:
        client.cancel(list(futures), force=True)
        client.unsubscribe_topic(TOPIC)


def _collect(events: "SimpleQueue[ShardEvent | Future]", futures: dict[Future, int]) -> Iterator[ShardEvent]:
    open_futures = dict(futures)
    while open_futures:
        try:
            event = events.get(timeout=1.0)
        except Empty:
            continue
        if isinstance(event, ShardEvent):
            yield event
        elif event in open_futures:
            shard = open_futures.pop(event)
            yield ShardEvent(shard, 1.0) if event.status == "finished" else ShardEvent(shard, 0.0, _why(event))


def _why(future: Future) -> str:
    if future.cancelled():
        return "the scheduler lost the shard"
    error = future.exception()
    return _reason(error) if error is not None else f"status {future.status}"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _on_worker(work: Work, job: Spec, index: int) -> None:
    last = [0.0]

    def report(fraction: float) -> None:
        if time.monotonic() - last[0] > 1.0:
            last[0] = time.monotonic()
            get_worker().log_event(TOPIC, (index, fraction))

    work(job, index, report)


def _ignore(fraction: float) -> None:
    return None
