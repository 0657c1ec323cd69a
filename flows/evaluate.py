"""The evaluate flow."""

from prefect import flow

from flows.forms import from_form
from tasks.evaluate import evaluate
from tasks.progress import announced
from tasks.recipes import EvaluateRecipe
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="evaluate", flow_run_name="evaluate {recipe.reconstructions[0]}")
def evaluate_flow(recipe: EvaluateRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Compare reconstructions with the images that were measured.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference scores/<digest> within the workspace.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    return announced(outcome(evaluate(recipe, execution, return_state=True)))
