"""The report flow."""

from prefect import flow

from flows.forms import from_form
from tasks.artifacts import show_report
from tasks.progress import announced
from tasks.recipes import ReportRecipe
from tasks.report import report
from tasks.running.shards import Execution
from tasks.running.stopping import outcome
from tasks.workspace import open_workspace


@flow(name="report", flow_run_name="report {recipe.title}")
def report_flow(recipe: ReportRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Write one page with pictures and tables.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference reports/<digest>/report.html within the workspace.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    ref = outcome(report(recipe, execution, return_state=True))
    show_report(execution.workspace, ref)
    return announced(ref)
