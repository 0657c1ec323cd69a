"""The measure flow."""

from prefect import flow

from flows.forms import from_form
from tasks.measure import measure
from tasks.progress import announced
from tasks.recipes import MeasureRecipe
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="measure", flow_run_name="measure {recipe.dataset}")
def measure_flow(recipe: MeasureRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Simulate the measurement of every image of a data set.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference measurements/<digest> within the workspace.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    return announced(outcome(measure(recipe, execution, return_state=True)))
