"""Which failures another try can mend."""

from typing import Any

from storage.errors import StoreFull, StoreMismatch, StoreNotFound
from tasks.shards import TooManyFailures


async def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Whether a failed task should run again: not after a user's mistake or too many failed shards."""
    error = await state.aresult(raise_on_failure=False)
    hopeless = (ValueError, TypeError, FileNotFoundError, StoreMismatch, StoreNotFound, StoreFull, TooManyFailures)
    return not isinstance(error, hopeless)
