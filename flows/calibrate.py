"""The calibrate flow."""

from prefect import flow

from flows.forms import from_form
from tasks.calibrate import calibrate
from tasks.progress import announced
from tasks.recipes import CalibrateRecipe
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="calibrate", flow_run_name="calibrate {recipe.reconstructions}")
def calibrate_flow(recipe: CalibrateRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Learn from reconstructions of people whose truth is known how wide intervals must be to hold.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference calibrations/<digest> within the workspace, which a reconstruction names.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    return announced(outcome(calibrate(recipe, execution, return_state=True)))
