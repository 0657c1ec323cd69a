"""The report flow."""

from prefect import flow

from tasks.recipes import ReportRecipe
from tasks.report import report
from tasks.shards import Execution


@flow(name="report")
def report_flow(recipe: ReportRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Write one page with pictures and tables.

    Args:
        recipe: What is computed; the same recipe gives the same result, and is skipped where it is done.
        execution: How and where it is computed.

    Returns:
        The reference reports/<digest> within the workspace.
    """
    return report(recipe, execution)
