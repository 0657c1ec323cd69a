"""A Dask worker with one thread and one slot: on this machine, in a job of SLURM or in a pod of Kubernetes.

    python -m tasks.workers.serve ADDRESS --name NAME

It ends with the process that started it, or with the scheduler, and in order when it is asked to (SIGTERM).
"""

import argparse
import asyncio
import signal
import sys
import threading
from typing import Any

from tasks.running.imports import without_collection
from tasks.running.processes import GRACE_SECONDS, end_with_parent, leave, say_ready

SLOT = "SLOT"
"""The Dask resource of which every worker has one."""


def main(arguments: list[str]) -> None:
    """Take work from the scheduler at an address until it or somebody ends this worker."""
    # Before the imports that take seconds, in which the parent may go.
    end_with_parent()
    with without_collection():
        import tasks.workers.evaluate
        import tasks.workers.ingest
        import tasks.workers.measure
        import tasks.workers.reconstruct  # noqa: F401  (the first shard needs them)
        from tasks.workers.setup import limit_threads

    limit_threads()
    asyncio.run(_serve(_options(arguments)))
    # A shard in work would hold the process, though nobody waits for it any more.
    leave()


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--name")
    parser.add_argument("--host")
    parser.add_argument("--interface")
    parser.add_argument("--local-directory")
    parser.add_argument("--death-timeout", type=float, help="seconds without a scheduler")
    # dask-jobqueue adds threads and memory, which are decided here.
    return parser.parse_known_args(arguments)[0]


async def _serve(options: argparse.Namespace) -> None:
    from distributed import Worker

    worker = Worker(
        options.address,
        name=options.name,
        nthreads=1,
        resources={SLOT: 1},
        host=options.host,
        interface=options.interface,
        dashboard=False,
        local_directory=options.local_directory,
        death_timeout=options.death_timeout,
        # Arrays never pass through Dask, so its accounting would only pause workers that use what they need.
        memory_limit=0,
    )

    async with worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(_end(worker)))
        say_ready()
        await worker.finished()


async def _end(worker: Any) -> None:
    # Where the scheduler ends the worker at the same moment, Dask's own end may never come.
    timer = threading.Timer(GRACE_SECONDS, leave)
    timer.daemon = True
    timer.start()
    await worker.close(timeout=GRACE_SECONDS / 2)


if __name__ == "__main__":
    main(sys.argv[1:])
