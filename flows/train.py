"""The train flow."""

from prefect import flow

from flows.forms import from_form
from tasks.progress import announced
from tasks.recipes import TrainRecipe
from tasks.running.gpu_slot import gpu_slot
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.train import train
from tasks.workspace import open_workspace


@flow(name="train", flow_run_name="train {recipe.name}")
def train_flow(recipe: TrainRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Train a prior, or go on training it.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference priors/<digest> within the workspace.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    # A training runs on this machine, wherever the workers are.
    with gpu_slot(execution.device):
        return announced(outcome(train(recipe, execution, return_state=True)))
