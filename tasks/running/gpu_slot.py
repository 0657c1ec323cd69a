"""Runs that would use the same GPUs wait for each other: they hold places of one limit of the Prefect server.

Within a run, a worker has one slot and a GPU one worker. Between runs, whether deployments, commands or trainings, it
is a global concurrency limit. The server of one command alone has none, and needs none.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.logging import get_logger
from prefect.settings import PREFECT_API_URL

from scoreinv.errors import UserError
from tasks.running.cluster import AnyCluster, Inline, LocalWorkers
from tasks.running.processes import OWN_SERVER
from tasks.workers.priors import pick_device

LIMIT_VARIABLE = "SCOREINV_GPU_LIMIT"
"""The environment variable that names the limit of this machine, where machines have limits of their own."""

LIMIT = "scoreinv-gpu"
"""The limit where that variable is not set."""

LEASE_SECONDS = 120.0
"""After a run was killed, its place is free in so long; it renews it at three quarters of that."""

_is_held: ContextVar[bool] = ContextVar("scoreinv_gpu_slot_is_held", default=False)


def limit_name() -> str:
    """The name of the limit that runs on this machine hold."""
    return os.environ.get(LIMIT_VARIABLE) or LIMIT


def create_limit(n_runs: int = 1) -> None:
    """Make the limit on the configured server, or change it: so many runs at a time may use this machine's GPUs."""
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit_name(), n_runs)


@contextmanager
def gpu_slot(device: Literal["auto", "cpu", "cuda"], cluster: AnyCluster = Inline()) -> Iterator[None]:  # noqa: B008
    """A block during which no other run of the server uses the GPUs of this machine; it waits until it may begin.

    Nothing is held if the work is on CPUs or on another cluster's GPUs, within another such block, or without a server
    of one's own. Where the server loses the place, as when it restarts, the block is ended.

    Raises:
        UserError: if the server has no such limit.
        ConnectionError: if the place was lost.
    """
    has_server = PREFECT_API_URL.value() and OWN_SERVER not in os.environ
    if _is_held.get() or not has_server or not _uses_gpus_here(device, cluster):
        yield
        return
    name = limit_name()
    get_logger("scoreinv").info("this run uses a GPU when it has a place of the limit %s", name)
    token = _is_held.set(True)
    try:
        with concurrency(name, occupy=1, strict=True, lease_duration=LEASE_SECONDS):
            yield
    except ConcurrencySlotAcquisitionError as error:
        raise _refusal(name, error) from error
    except asyncio.CancelledError as error:
        raise ConnectionError(
            f"the Prefect server no longer keeps this run's place of the limit {name}, so another run may use the GPU: "
            "run the same command again, it goes on from there"
        ) from error
    finally:
        _is_held.reset(token)


def _refusal(name: str, error: Exception) -> Exception:
    if "must be created" not in str(error):
        return ConnectionError(f"the Prefect server gives no place of the limit {name}: {error.__cause__ or error}")
    return UserError(
        f"the Prefect server at {PREFECT_API_URL.value()} has no limit {name!r}, by which runs do not use one GPU at "
        f"the same time: make it with `prefect gcl create {name} --limit 1`"
    )


def _uses_gpus_here(device: Literal["auto", "cpu", "cuda"], cluster: AnyCluster) -> bool:
    return isinstance(cluster, Inline | LocalWorkers) and device != "cpu" and pick_device(device).type == "cuda"
