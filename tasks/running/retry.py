"""Which failures of a stage another try can mend."""

from typing import Any

from storage.errors import LeaseLost
from tasks.running.cluster import NoWorkers
from tasks.running.shards import HOPELESS, TooManyFailures


async def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Whether a failed task should run again: not after a mistake, nor after its shards or workers had their tries."""
    error = await state.aresult(raise_on_failure=False)
    # What another run has taken over is followed then.
    return isinstance(error, LeaseLost) or not isinstance(error, (*HOPELESS, TooManyFailures, NoWorkers))
