"""The tune flow."""

from prefect import flow

from flows.forms import from_form
from tasks.progress import announced
from tasks.recipes import TuneRecipe
from tasks.running.gpu_slot import gpu_slot
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.tuning.tune import tune
from tasks.workspace import open_workspace


@flow(name="tune", flow_run_name="tune {recipe.reconstruction.method.kind} on {recipe.measurements}")
def tune_flow(recipe: TuneRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Tune the few numbers of a method on slices whose truth is known.

    Args:
        recipe: What is computed; the same recipe gives the same result, and more trials continue fewer.
        execution: How and where it is computed.

    Returns:
        The reference tuning/<digest> within the workspace; best.yaml there is a recipe to reconstruct with.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    with gpu_slot(execution.device, execution.cluster):
        return announced(outcome(tune(recipe, execution, return_state=True)))
