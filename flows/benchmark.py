"""The benchmark flow: methods side by side on one data set, over one measurement or several."""

from prefect import flow

from flows.forms import from_form
from flows.pipeline import run_pipeline
from tasks.benchmark import BenchmarkRecipe
from tasks.running.shards import Execution


@flow(name="benchmark", flow_run_name="{recipe.title}")
def benchmark_flow(recipe: BenchmarkRecipe, execution: Execution = Execution()) -> str:  # noqa: B008
    """Train every model once, then reconstruct, evaluate and report every method at every measurement.

    Args:
        recipe: What is compared; what is done already is skipped.
        execution: How and where it is computed.

    Returns:
        The reference reports/<digest>/report.html within the workspace.
    """
    return run_pipeline(from_form(recipe).pipeline(), from_form(execution).absolute())
