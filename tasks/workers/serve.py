"""A Dask worker on this machine, with one thread and one slot.

    python -m tasks.workers.serve ADDRESS NAME FOLDER

It ends with the process that started it, and in order when it is asked to (SIGTERM).
"""

import asyncio
import signal
import sys

from tasks.running.imports import without_collection
from tasks.running.processes import GRACE_SECONDS, end_with_parent, say_ready

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
    address, name, folder = arguments
    asyncio.run(_serve(address, int(name), folder))


async def _serve(address: str, name: int, folder: str) -> None:
    from distributed import Worker

    worker = Worker(
        address,
        name=name,
        nthreads=1,
        resources={SLOT: 1},
        host="127.0.0.1",
        dashboard=False,
        local_directory=folder,
        # Arrays never pass through Dask, so its accounting would only pause workers that use what they need.
        memory_limit=0,
    )
    async with worker:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, lambda: asyncio.ensure_future(worker.close(timeout=GRACE_SECONDS / 2))
        )
        say_ready()
        await worker.finished()


if __name__ == "__main__":
    main(sys.argv[1:])
