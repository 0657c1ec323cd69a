"""Map a function over the shards of a store that are not done.

The function runs on a Dask worker (or here), writes one whole shard and returns nothing; arrays never
cross. What is done is what the store's markers say, so a run that was killed goes on where it
stopped, and a failed shard is redone by the same command.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from distributed import Client, Future, KilledWorker, get_worker
from pydantic import Field, model_validator

from scoreinv.errors import MissingPackage
from scoreinv.operators.linear import ProjectorName
from scoreinv.spec import Spec
from storage.errors import StoreError
from storage.shards import Shard, ShardedStore
from storage.uri import Place, is_in_memory, is_local, local_path
from tasks.running.cluster import SLOT, AnyCluster, Inline, LocalWorkers, connect, patience_of, require_workers
from tasks.running.mistakes import TooManyFailures as TooManyFailures
from tasks.running.mistakes import explain

HOPELESS = (ValueError, TypeError, FileNotFoundError, MemoryError, MissingPackage, StoreError)
"""What another try cannot mend."""

REPORT_SECONDS = 1.0
"""A worker says at most so often how far it is, and looks as often whether it should stop."""

PATIENCE_SECONDS = 300.0
"""How long shards may wait for the first worker that takes one: batch queues and torch are slow to start."""


class Launch(Spec):
    """How a training runs."""

    n_processes: int = Field(1, ge=1, description="One per GPU; on CPUs one per socket.")
    n_threads: int = Field(
        2,
        ge=1,
        description="CPU threads of each process; 1 where other work keeps the cores busy: threads that wait for each "
        "other cost more than they bring there.",
    )
    n_at_once: int = Field(
        0,
        ge=0,
        title="Images at once",
        description="That go through the network of a process, which sums their gradients up; 0: its part of the "
        "batch. Halved where the memory of a GPU is not enough.",
    )
    is_compiled: bool = Field(
        False,
        title="Compiled network",
        description="Train a network that torch.compile has compiled: minutes at first, then faster on most GPUs, and "
        "slower on CPUs. Needs a compiler; weights change by rounding.",
    )
    max_minutes: float = Field(
        0.0,
        ge=0,
        description="The training then stops, validates and publishes what it has; the same command goes on later. "
        "0: no limit.",
    )
    memory_gib: float = Field(
        2.0,
        ge=0,
        title="Images in memory (GiB)",
        description="More images than this are not held by every process: they go into one file for all.",
    )
    cache: str = Field("", description="Folder of that file; empty: the one for temporary files.")


class Execution(Spec):
    """How and where something is computed; never part of a digest."""

    workspace: Place = Field(
        "workspace",
        min_length=1,
        description="Folder or bucket that holds every result; a relative folder counts from where the run starts.",
    )
    cluster: AnyCluster = Field(LocalWorkers(), title="Cluster")
    batch_size: int = Field(8, ge=1, le=65_536, description="Images per network call.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run; auto: a GPU if there is one."
    )
    is_compiled: bool = Field(
        False,
        title="Compiled networks",
        description="Reconstruct with networks that torch.compile has compiled: minutes at first, kept on disk, then "
        "a little faster. Needs a compiler; images change by rounding.",
    )
    projector: ProjectorName = Field(
        "matrix",
        description="What computes the line integrals of CT while reconstructing. matrix is the reference, by which "
        "data are simulated and results are judged; the others differ from it by about a per cent.",
    )
    training: Launch = Field(Launch(), title="Training processes")
    retries: int = Field(2, ge=0, le=100, description="How often a failed shard is tried again within one run.")
    max_failed: int = Field(0, ge=0, description="Failed shards that a run tolerates before it stops early.")
    when_busy: Literal["follow", "fail"] = Field(
        "follow",
        title="When another run makes it",
        description="follow: watch the other run, take its result, and go on in its place if it ends before; fail: "
        "end, and say who makes it.",
    )

    def absolute(self) -> "Execution":
        """The same with the whole path of its workspace, counted from the folder of this process.

        Every flow and command begins with it: Dask's workers may start elsewhere. It is not done when an Execution
        is made, as forms would then offer the folder of whoever deployed.
        """
        if not is_local(self.workspace):
            return self
        return self.model_copy(update={"workspace": str(local_path(self.workspace).resolve())})

    @model_validator(mode="after")
    def _is_shared(self) -> "Execution":
        if is_in_memory(self.workspace) and not isinstance(self.cluster, Inline):
            raise ValueError(
                f"workspace={self.workspace} lies in the memory of one process, so worker processes do not see it: "
                "use cluster.kind=inline, or a folder or bucket as workspace"
            )
        return self


class ShardEvent(NamedTuple):
    """What happened to a shard: a share of it is done, it is done, or it failed for good."""

    shard: int
    fraction: float
    error: str | None = None
    fault: BaseException | None = None
    """The error itself, if it is a fault of the program."""


Events = Generator[ShardEvent, None, None]


class Stopped(RuntimeError):  # noqa: N818  (no error of anyone)
    """Nobody waits for this shard any more."""


Report = Callable[[float], None]
"""Called by a work function with the share of its shard that is done."""
Work = Callable[[Any, int, Report], None]
"""(job, shard index, report) -> None; must be importable by name on the workers."""


class _Batch(NamedTuple):
    """Shards to run a work function on."""

    work: Work
    job: Spec
    shards: list[Shard]
    retries: int


def map_shards(work: Work, job: Spec, store: ShardedStore, execution: Execution) -> Events:
    """Yield events until every pending shard is done or has failed for good.

    Who stops listening closes the generator (``contextlib.closing``); the work in flight is then abandoned.

    Raises:
        TooManyFailures: as soon as more than ``execution.max_failed`` shards have failed, else at the end if
            any has; names the first reasons.
        ConnectionError: if there is no Dask cluster, none of its workers can start, or none takes a shard.
        LeaseLost: if this process filled the store by a lease that was taken over.
    """
    batch = _Batch(work, job, store.pending(), execution.retries)
    errors: dict[int, str] = {}
    fault: BaseException | None = None
    with closing(_events(batch, execution.cluster)) as events:
        for event in events:
            yield event
            if store.lease:
                store.lease.refuse_lost()
            if event.error is not None:
                errors[event.shard] = event.error
                fault = fault or event.fault
            if len(errors) > execution.max_failed:
                break
    if errors:
        raise TooManyFailures(_failure_text(errors, store)) from fault


def _events(batch: _Batch, cluster: AnyCluster) -> Events:
    if not batch.shards:
        return
    if isinstance(cluster, Inline):
        yield from _inline(batch)
    else:
        with connect(cluster) as client:
            yield from _DaskRun(batch, client).events()


def _failure_text(errors: Mapping[int, str], store: ShardedStore) -> str:
    first = [f"shard {index}: {errors[index]}" for index in sorted(errors)[:3]]
    shown = "; ".join(first) + (f"; and {len(errors) - 3} more" if len(errors) > 3 else "")
    n = len(store.plan())
    try:
        done = n - len(store.pending())
    except (OSError, StoreError):
        # The place of the store is what failed.
        return f"{shown}. What is done of {store.uri} is kept for the next try"
    return f"{shown}. {done} of {n} shards of {store.uri} are done and kept for the next try"


def _inline(batch: _Batch) -> Iterator[ShardEvent]:
    for shard in batch.shards:
        error = _tried(batch, shard.index)
        yield ShardEvent(shard.index, 1.0) if error is None else _failed(shard.index, error)


def _tried(batch: _Batch, index: int) -> Exception | None:
    """The error by which a shard failed for good, if it did."""
    for attempt in range(batch.retries + 1):
        try:
            batch.work(batch.job, index, _ignore)
        except Exception as error:
            if attempt == batch.retries or not _is_worth_another_try(error):
                return error
        else:
            return None
    return None


class _DaskRun:
    """The shards of a batch on the workers of a cluster.

    Dask blames a worker's death on every shard that waited there. So shards with too many deaths are only
    suspects, which are tried again in the end, one on each worker at a time; then the blame is just.
    """

    def __init__(self, batch: _Batch, client: Client) -> None:
        self.batch = batch
        self.client = client
        self.address = client.scheduler.address
        self.patience = patience_of(client, PATIENCE_SECONDS)
        # Several runs may share a scheduler.
        self.name = uuid4().hex
        self.inbox: SimpleQueue[ShardEvent | Future] = SimpleQueue()
        self.waiting: dict[Future, int] = {}
        self.failures = Counter[int]()
        self.suspects: list[int] = []
        self.tried_alone: set[int] = set()

    def events(self) -> Events:
        """Yield what happens until every shard is done or has failed for good."""
        self.client.subscribe_topic(self.name, lambda event: self.inbox.put(ShardEvent(*event[1])))
        try:
            self._submit([shard.index for shard in self.batch.shards])
            while self.waiting:
                message = self._next_message()
                if isinstance(message, ShardEvent):
                    yield message
                elif message in self.waiting:
                    yield from self._settle(message, self.waiting.pop(message))
                self._try_suspects()
        finally:
            self._abandon()

    def _submit(self, indices: list[int]) -> None:
        # In one call, so that the cluster knows how many workers there is work for.
        futures = self.client.map(
            _on_worker,
            indices,
            work=self.batch.work,
            job=self.batch.job,
            run=self.name,
            key=[f"shard-{index}-{uuid4().hex}" for index in indices],
            resources={SLOT: 1},
            pure=False,
        )
        for future, index in zip(futures, indices, strict=True):
            self.waiting[future] = index
            future.add_done_callback(self.inbox.put)

    def _next_message(self) -> "ShardEvent | Future":
        start = time.monotonic()
        while True:
            try:
                return self.inbox.get(timeout=1.0)
            except Empty:
                self._require_life(time.monotonic() - start)

    def _require_life(self, silence: float) -> None:
        if self.client.status in ("closing", "closed"):
            raise ConnectionError(
                f"the Dask scheduler at {self.address} is gone: start it and run the same command again"
            )
        require_workers(self.client)
        if silence > self.patience and not any(self.client.processing().values()):
            raise ConnectionError(
                f"no worker of {self.address} took a shard within {self.patience:.0f} s: start some with "
                f"`dask worker {self.address} --nthreads 1 --resources {SLOT}=1`"
            )

    def _settle(self, future: Future, index: int) -> Iterator[ShardEvent]:
        if future.status == "finished":
            # What a worker that dies has in memory and somebody still wants is made again.
            future.release()
            yield ShardEvent(index, 1.0)
            return
        error = ConnectionError("the Dask scheduler lost it") if future.cancelled() else future.exception()
        self.failures[index] += 1
        if isinstance(error, KilledWorker) and index not in self.tried_alone:
            self.suspects.append(index)
        elif _is_worth_another_try(error) and self.failures[index] <= self.batch.retries:
            self._submit([index])
        else:
            yield _failed(index, error.with_traceback(future.traceback()))

    def _try_suspects(self) -> None:
        if self.suspects and not self.waiting:
            n_workers = max(1, len(self.client.nthreads()))
            chosen, self.suspects = self.suspects[:n_workers], self.suspects[n_workers:]
            self.tried_alone.update(chosen)
            self._submit(chosen)

    def _abandon(self) -> None:
        # Otherwise the scheduler is gone, and the shards with it.
        if self.client.status == "running":
            self.client.cancel(list(self.waiting), force=True)
            self.client.unsubscribe_topic(self.name)


def _is_worth_another_try(error: BaseException) -> bool:
    return not isinstance(error, (*HOPELESS, KilledWorker))


def _failed(index: int, error: BaseException) -> ShardEvent:
    is_mendable = isinstance(error, KilledWorker) or explain(error) is not None
    return ShardEvent(index, 0.0, _reason(error), None if is_mendable else error)


def _reason(error: BaseException) -> str:
    if isinstance(error, KilledWorker):
        return "worker processes died under it again and again; too little memory is the usual reason"
    message = explain(error) if isinstance(error, HOPELESS) else None
    return message or f"{type(error).__name__}: {error}"


def _on_worker(index: int, work: Work, job: Spec, run: str) -> None:
    worker = get_worker()
    key = worker.get_current_task()
    last = [time.monotonic()]

    def report(fraction: float) -> None:
        if time.monotonic() - last[0] < REPORT_SECONDS:
            return
        last[0] = time.monotonic()
        # Dask cannot interrupt a thread; it only marks what it is no longer asked for.
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise Stopped(f"shard {index} is no longer wanted")
        worker.log_event(run, (index, fraction))

    work(job, index, report)


def _ignore(fraction: float) -> None:
    return None
