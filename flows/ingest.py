"""The ingest flow."""

from prefect import flow

from flows.events import tell_ingested
from flows.forms import from_form
from tasks.ingest import ingest
from tasks.progress import announced
from tasks.recipes import IngestRecipe
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="ingest", flow_run_name="ingest {recipe.source.kind}")
def ingest_flow(recipe: IngestRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Bring images from any source into a data set.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference datasets/<digest> within the workspace.
    """
    shown = execution.workspace
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    ref = outcome(ingest(recipe, execution, return_state=True))
    tell_ingested(execution.workspace, shown, ref)
    return announced(ref)
