"""The reconstruct flow."""

from prefect import flow

from flows.forms import from_form
from tasks.progress import announced
from tasks.recipes import ReconstructRecipe
from tasks.reconstruct import reconstruct
from tasks.running.gpu_slot import gpu_slot
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="reconstruct", flow_run_name="reconstruct {recipe.measurements} by {recipe.reconstruction.method.kind}")
def reconstruct_flow(recipe: ReconstructRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Reconstruct every slice of a data set from its measurements.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference reconstructions/<digest> within the workspace.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    with gpu_slot(execution.device, execution.cluster):
        return announced(outcome(reconstruct(recipe, execution, return_state=True)))
