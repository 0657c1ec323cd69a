"""One run fills a result. Others of the same recipe follow it, and go on in its place if it ends before it is done."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from prefect.logging import get_run_logger

from storage.errors import LeaseLost, StoreHeld
from storage.lease import Lease, Watch, held_text, look_seconds, take
from storage.plans import reference_of
from storage.shards import ShardedStore
from tasks.progress import Meter, follow, say_if_done
from tasks.running.shards import Events, Execution


def fill(
    store: ShardedStore, execution: Execution, title: str, work: Callable[[], Events], finish: Callable[[], None]
) -> None:
    """Fill a store by the events of ``work``, and ``finish`` it, unless it is done; follow whoever fills it already.

    Raises:
        StoreHeld: if another does, and ``execution.when_busy`` is "fail".
    """
    say_if_done(store, title)
    while not store.is_finished():
        with owned([store], execution, title) as mine:
            if mine:
                follow(work(), store, title)
                finish()


@contextmanager
def owned(stores: Sequence[ShardedStore], execution: Execution, title: str) -> Iterator[list[ShardedStore]]:
    """A block that is given those of some unfinished stores that this process fills now, and fills and finishes them.

    If others fill all of them, it first follows these until one has ended, and the block is given none. The block
    stands in a loop, until all stores are finished (``fill`` is that of one store).

    If a store is taken over by another process meanwhile, the block ends without an error, and the next one follows it.

    Raises:
        StoreHeld: if others fill all of them, and ``execution.when_busy`` is "fail".
    """
    with ExitStack() as leases:
        mine = [store for store in stores if _is_taken(store, leases)]
        if not mine:
            _follow_owners(stores, execution, title)
        try:
            yield mine
        except LeaseLost as lost:
            get_run_logger().warning("%s", lost)
        finally:
            for store in mine:
                store.lease = None


@contextmanager
def owned_folder(uri: str, execution: Execution, show: Callable[[], None]) -> Iterator[Lease]:
    """A block in which this process alone fills a folder; it begins when nobody else does. As ``await_turn``."""
    while (lease := take(uri)) is None:
        await_turn([uri], execution, show)
    with lease:
        yield lease


def await_turn(uris: Sequence[str], execution: Execution, show: Callable[[], None]) -> None:
    """Wait until one of some folders is filled by nobody; while it waits, ``show`` is called after every look.

    Raises:
        StoreHeld: if ``execution.when_busy`` is "fail" and all who fill them are known to live.
    """
    watches = [Watch(uri) for uri in uris]
    owners = [watch.owner() for watch in watches]
    if not all(owners):
        return
    if execution.when_busy == "follow":
        for uri, owner in zip(uris, owners, strict=True):
            get_run_logger().info("%s is being made by %s: following it", reference_of(uri), owner)
    while all(owners):
        if execution.when_busy == "fail" and all(watch.has_seen_life for watch in watches):
            raise StoreHeld("; ".join(held_text(uri, one) for uri, one in zip(uris, owners, strict=True) if one))
        show()
        time.sleep(min(look_seconds(uri) for uri in uris))
        owners = [watch.owner() for watch in watches]
    show()


def _is_taken(store: ShardedStore, leases: ExitStack) -> bool:
    lease = None if store.is_finished() else take(store.uri)
    if lease is None:
        return False
    leases.enter_context(lease)
    # Whoever filled it may have finished it since it was last looked at.
    if store.is_finished():
        return False
    if lease.before and lease.before.software != lease.owner.software:
        how = "what it made is kept: remove the folder to have all of it made by one version"
        begun = (reference_of(store.uri), lease.before.software, lease.owner.software)
        get_run_logger().warning("%s was begun by %s and goes on with %s; %s", *begun, how)
    store.lease = lease
    return True


def _follow_owners(stores: Sequence[ShardedStore], execution: Execution, title: str) -> None:
    unfinished = [store for store in stores if not store.is_finished()]
    if not unfinished:
        return
    total = sum(store.n for store in unfinished)
    with Meter(title, unfinished[0].uri, total=total, skipped=_n_done(unfinished)) as meter:
        await_turn([store.uri for store in unfinished], execution, lambda: meter.show(_n_done(unfinished)))


def _n_done(stores: Sequence[ShardedStore]) -> int:
    return sum(store.n - sum(shard.stop - shard.start for shard in store.pending()) for store in stores)
