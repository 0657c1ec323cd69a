"""A task that is told to stop ends as cancelled, and its flow is told in turn."""

import logging
import signal

import pytest
from prefect import task
from prefect.exceptions import TerminationSignal

from tasks.recipes import EvaluateRecipe
from tasks.running.shards import Execution
from tasks.running.stopping import outcome, stoppable

RECIPE = EvaluateRecipe(reconstructions=("reconstructions/0a1b",))


@task(name="told-to-stop")
@stoppable
def told_to_stop(recipe: EvaluateRecipe, execution: Execution) -> str:
    raise TerminationSignal(signal.SIGTERM)


@task(name="failing")
@stoppable
def failing(recipe: EvaluateRecipe, execution: Execution) -> str:
    raise ValueError("wrong on purpose")


@task(name="working")
@stoppable
def working(recipe: EvaluateRecipe, execution: Execution) -> str:
    return f"scores of {recipe.reconstructions[0]}"


@pytest.mark.usefixtures("prefect_server")
def test_a_stop_is_no_crash(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        state = told_to_stop(RECIPE, Execution(), return_state=True)
    assert state.is_cancelled()
    assert state.message == "Stopped by request. What is done is kept: the same run again goes on from there."
    assert "Crash" not in caplog.text
    with pytest.raises(TerminationSignal):
        outcome(state)


@pytest.mark.usefixtures("prefect_server")
def test_results_and_failures_pass_through() -> None:
    assert outcome(working(RECIPE, Execution(), return_state=True)) == "scores of reconstructions/0a1b"
    with pytest.raises(ValueError, match="wrong on purpose"):
        outcome(failing(RECIPE, Execution(), return_state=True))
