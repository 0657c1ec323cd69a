"""What a machine that stands still for a while must not break."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

START_TRIES = 6
"""Of what starts a thread in this process; each may take ten seconds."""

T = TypeVar("T")


def tried_again(start: Callable[[], T]) -> T:
    """What Dask makes; it asserts that a thread of its own runs within ten seconds, which a stalled machine misses."""
    for _ in range(START_TRIES - 1):
        with suppress(AssertionError):
            return start()
    return start()
