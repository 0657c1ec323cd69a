"""The plan flow: what the plan command does, with the plan in the workspace."""

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger

from flows.forms import from_form
from storage.uri import join, write_bytes
from tasks.artifacts import key_of
from tasks.planning.plan import make_plan
from tasks.planning.plan_text import plan_text
from tasks.progress import announced
from tasks.recipes import PlanRequest
from tasks.running.gpu_slot import gpu_slot
from tasks.running.shards import Execution
from tasks.workspace import open_workspace, reference


@flow(name="plan", flow_run_name="plan {recipe.measurement.kind}")
def plan_flow(recipe: PlanRequest, execution: Execution = Execution()) -> str:  # noqa: B008
    """Choose prior, method and settings for a data set, and write a recipe with the expected cost.

    Args:
        recipe: The images, what is measured of them, and how much time it may take.
        execution: How and where it is computed; the prior is timed on these workers.

    Returns:
        The reference plans/<digest> within the workspace; plan.yaml there is a recipe for a pipeline.
    """
    recipe, execution = from_form(recipe), from_form(execution).absolute()
    open_workspace(execution.workspace)
    ref = reference("plans", recipe.digest())
    uri = join(execution.workspace, ref)
    path = join(uri, "plan.yaml")
    with gpu_slot(execution.device, execution.cluster):
        plan = make_plan(recipe, execution, get_run_logger().info)
    text = plan_text(plan, path)
    write_bytes(path, text.encode())
    said = f"To run it as it is: deployment `recipe`, with `{ref}` as its recipe.\n\n```yaml\n{text}```\n"
    create_markdown_artifact(said, key=key_of(uri), description="The recipe, with its expected cost and the reasons")
    return announced(ref)
