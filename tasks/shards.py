"""Map a function over the shards of a store that are not done.

The function runs on a Dask worker (or here), writes one whole shard and returns nothing; arrays never
cross. What is done is what the store's markers say, so a run that was killed goes on where it
stopped, and a failed shard is redone by the same command.
"""

import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple
from uuid import uuid4

from distributed import Client, Future, KilledWorker, get_worker
from pydantic import Field

from scoreinv.spec import Spec
from storage.errors import StoreError
from storage.shards import Shard, ShardedStore
from tasks.cluster import ALLOWED_DEATHS, SLOT, AnyCluster, Inline, LocalWorkers, connect

HOPELESS = (ValueError, TypeError, FileNotFoundError, MemoryError, StoreError)
"""What another try cannot mend; their messages need no class name before them."""

REPORT_SECONDS = 1.0
"""A worker says at most so often how far it is, and looks as often whether it should stop."""

PATIENCE_SECONDS = 300.0
"""How long shards may wait for the first worker that takes one: batch queues and torch are slow to start."""


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
    """Some shards failed, so the store cannot be finished; what is done is kept."""


class Stopped(RuntimeError):
    """Nobody waits for this shard any more."""


Report = Callable[[float], None]
"""Called by a work function with the share of its shard that is done."""
Work = Callable[[Spec, int, Report], None]
"""(job, shard index, report) -> None; must be importable by name on the workers."""


class _Batch(NamedTuple):
    """Shards to run a work function on."""

    work: Work
    job: Spec
    shards: list[Shard]
    retries: int


def map_shards(work: Work, job: Spec, store: ShardedStore, execution: Execution) -> Iterator[ShardEvent]:
    """Yield events until every pending shard is done or has failed for good.

    Raises:
        TooManyFailures: as soon as more than ``execution.max_failed`` shards have failed, else at the end if
            any has; names the first reasons.
        ConnectionError: if there is no Dask cluster, or none of its workers takes a shard.
    """
    pending = store.pending()
    errors: list[str] = []
    for event in _events(_Batch(work, job, pending, execution.retries), execution.cluster):
        yield event
        if event.error is not None:
            errors.append(f"shard {event.shard}: {event.error}")
        if len(errors) > execution.max_failed:
            break
    if errors:
        raise TooManyFailures(_failure_text(errors, store))


def _events(batch: _Batch, cluster: AnyCluster) -> Iterator[ShardEvent]:
    if not batch.shards:
        return
    if isinstance(cluster, Inline):
        yield from _inline(batch)
    else:
        with connect(cluster) as client:
            yield from _on_dask(batch, client)


def _failure_text(errors: list[str], store: ShardedStore) -> str:
    shown = "; ".join(errors[:3]) + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")
    n = len(store.plan())
    done = n - len(store.pending())
    return f"{shown}. {done} of {n} shards of {store.uri} are done and kept: the same command makes the rest"


def _inline(batch: _Batch) -> Iterator[ShardEvent]:
    for shard in batch.shards:
        error = _tried(batch, shard.index)
        yield ShardEvent(shard.index, 0.0 if error else 1.0, error)


def _tried(batch: _Batch, index: int) -> str | None:
    error: Exception | None = None
    for _ in range(batch.retries + 1):
        try:
            batch.work(batch.job, index, _ignore)
        except HOPELESS as hopeless:
            return _reason(hopeless)
        except Exception as maybe:
            error = maybe
        else:
            return None
    return _reason(error) if error else None


def _on_dask(batch: _Batch, client: Client) -> Iterator[ShardEvent]:
    events: SimpleQueue[ShardEvent | Future] = SimpleQueue()
    # Several runs may share a scheduler.
    run = uuid4().hex
    client.subscribe_topic(run, lambda event: events.put(ShardEvent(*event[1])))
    # In one call, so that the cluster knows how many workers there is work for.
    futures: list[Future] = client.map(
        _on_worker,
        [shard.index for shard in batch.shards],
        work=batch.work,
        job=batch.job,
        run=run,
        key=[f"shard-{shard.index}-{run}" for shard in batch.shards],
        resources={SLOT: 1},
        retries=batch.retries,
        pure=False,
    )
    for future in futures:
        future.add_done_callback(events.put)
    try:
        waiting = {future: shard.index for future, shard in zip(futures, batch.shards, strict=True)}
        yield from _collect(events, waiting, client)
    finally:
        _abandon(client, futures, run)


def _collect(
    events: "SimpleQueue[ShardEvent | Future]", waiting: dict[Future, int], client: Client
) -> Iterator[ShardEvent]:
    last = time.monotonic()
    while waiting:
        try:
            event = events.get(timeout=1.0)
        except Empty:
            _require_life(client, time.monotonic() - last)
            continue
        last = time.monotonic()
        if isinstance(event, ShardEvent):
            yield event
        elif event in waiting:
            shard = waiting.pop(event)
            error = _error_of(event)
            yield ShardEvent(shard, 0.0 if error else 1.0, error)


def _require_life(client: Client, silence: float) -> None:
    if client.status != "running":
        raise ConnectionError(
            f"the Dask scheduler at {client.scheduler.address} is gone: start it and run the same command again"
        )
    if silence > PATIENCE_SECONDS and not any(client.processing().values()):
        raise ConnectionError(
            f"no worker of {client.scheduler.address} took a shard within {PATIENCE_SECONDS:.0f} s: start some with "
            f"`dask worker {client.scheduler.address} --nthreads 1 --resources {SLOT}=1`"
        )


def _abandon(client: Client, futures: list[Future], run: str) -> None:
    try:
        client.cancel([future for future in futures if not future.done()], force=True)
        client.unsubscribe_topic(run)
    except (OSError, TimeoutError, RuntimeError):
        # The scheduler is gone, and the shards with it.
        return


def _error_of(future: Future) -> str | None:
    if future.status == "finished":
        return future.result()  # type: ignore[no-any-return]
    if future.cancelled():
        return "the Dask scheduler lost it"
    error = future.exception()
    if isinstance(error, KilledWorker):
        return f"{ALLOWED_DEATHS + 1} worker processes died under it; too little memory is the usual reason"
    return _reason(error)


def _reason(error: BaseException) -> str:
    text = str(error)
    return text if text and isinstance(error, HOPELESS) else f"{type(error).__name__}: {text}"


def _on_worker(index: int, work: Work, job: Spec, run: str) -> str | None:
    """The reason of a hopeless failure; others are raised, so that Dask tries again, perhaps elsewhere."""
    worker = get_worker()
    key = worker.get_current_task()
    last = [0.0]

    def report(fraction: float) -> None:
        if time.monotonic() - last[0] < REPORT_SECONDS:
            return
        last[0] = time.monotonic()
        # Dask cannot interrupt a thread; it only marks what it is no longer asked for.
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Stopped(f"shard {index} is no longer wanted")
        worker.log_event(run, (index, fraction))

    try:
        work(job, index, report)
    except HOPELESS as error:
        return _reason(error)
    return None


def _ignore(fraction: float) -> None:
    return None
