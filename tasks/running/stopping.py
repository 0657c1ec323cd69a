"""A run that is told to stop, from Prefect's UI for example: it ends as cancelled, in its tasks too.

The signal reaches the task that is at work. Prefect would report that task as crashed, in red, though nothing is wrong
and the same run again goes on where this one stopped.
"""

import signal
from collections.abc import Callable
from functools import wraps
from typing import TypeVar, cast

from prefect.client.schemas import State
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled

from scoreinv.spec import Spec
from tasks.running.shards import Execution

RecipeT = TypeVar("RecipeT", bound=Spec)

MESSAGE = "Stopped by request. What is done is kept: the same run again goes on from there."


def stoppable(body: Callable[[RecipeT, Execution], str]) -> Callable[[RecipeT, Execution], str]:
    """The body of a task that ends as cancelled when its run is told to stop; to be called with ``outcome``."""

    @wraps(body)
    def run(recipe: RecipeT, execution: Execution) -> str:
        try:
            return body(recipe, execution)
        except TerminationSignal:
            return cast(str, Cancelled(message=MESSAGE))  # Prefect takes a state for how the task ended

    return run


def outcome(state: State[str]) -> str:
    """What a task returned, from its state; in a flow, whose end then follows from it.

    Raises:
        TerminationSignal: if the task was told to stop, which is meant for the flow: Prefect knows who asked.
        Exception: that of a task that failed.
    """
    if state.is_cancelled():
        raise TerminationSignal(signal.SIGTERM)
    return state.result()
