"""The inbox flow: a folder to which studies are added, reconstructed as its first run chose."""

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.logging import get_run_logger
from pydantic import Field

from flows.forms import is_from_a_form, place_from_form, workspace_from_form
from flows.ingest import ingest_flow
from flows.pipeline import run_pipeline
from flows.recipe import found_recipe
from flows.recipe_files import load_execution, load_recipe
from storage.errors import StoreError
from storage.uri import Place, create_bytes, exists, is_local, join, local_path, read_json, write_json
from tasks.artifacts import artifact_key, how_to_open
from tasks.planning.inbox import DATASETS, SHARD_SIZE, Files, InboxRequest, Planned, Simulated, plan_request
from tasks.planning.plan import MAX_PICTURES, make_plan
from tasks.planning.plan_text import plan_text
from tasks.planning.presets import PresetName
from tasks.planning.timing import machine_workers
from tasks.progress import announced
from tasks.recipes import PipelineRecipe
from tasks.running.cluster import LocalWorkers
from tasks.running.shards import Execution
from tasks.workspace import open_workspace, reference

DONE = "done.json"
"""Beside a plan: the data set that it was last carried out for, and the report."""


@flow(name="inbox", flow_run_name="{source}")
def inbox_flow(
    source: Annotated[Place, Field(min_length=1)],
    files: Files = "CT in DICOM files",
    measurement: Simulated = "what is usual for such images",
    preset: PresetName = "balanced",
    prior: str = "",
    workspace: Place = "workspace",
    n_workers: Annotated[int, Field(ge=0, le=1024)] = 0,
) -> str:
    """Reconstruct what is new in a folder, evaluate it and report; nothing new costs a look at the folder.

    The first run chooses grid, prior and settings, and keeps them in the workspace: plans/0a1b2c3d4e5f/plan.yaml, which
    may be edited. Later runs of the same form use them, so that what is done stays done.

    Args:
        source: A folder below a registered root, as scans/chest; or a data set, as datasets/0a1b2c3d4e5f.
        files: What lies in the folder; of a data set it is known.
        measurement: What is simulated of the images. Usual are sparse-view CT with 23 views and MRI 8 times faster.
        preset: How much time the reconstruction may take.
        prior: Such as ct-128, or priors/0a1b2c3d4e5f. Empty: what fits the images best.
        workspace: Folder of all results: a relative one counts from where the run starts; or below a registered root.
        n_workers: Dask workers on the machine of the run. 0: one for each GPU or core.

    Returns:
        The reference reports/<digest>/report.html within the workspace; empty if there is nothing in the folder.
    """
    asked = InboxRequest(source=source.strip(), files=files, measurement=measurement, preset=preset, prior=prior)
    cluster = LocalWorkers(n_workers=n_workers or machine_workers("auto"))
    execution = Execution(workspace=workspace_from_form(workspace), cluster=cluster)
    return run_inbox(asked, execution.absolute())


def run_inbox(asked: InboxRequest, execution: Execution) -> str:
    """The body of a flow; see there.

    Raises:
        UserError: if the form names a place that it may not, or no prior fits.
        SourceError: if the folder is not there, or holds nothing usable.
    """
    open_workspace(execution.workspace)
    asked, place = _placed(asked)
    planned = plan_request(asked, place, execution.workspace)
    source = planned.request.source
    if source is not None and is_local(place) and not source.stamps():
        return _nothing(f"There is no file in {asked.source} yet.", "", execution.workspace, planned.address)
    recipe, execution = _kept(planned, execution)
    (study,) = recipe.studies
    if study.ingest is not None and source is not None:
        # The folder may lie elsewhere than on the day of the plan.
        dataset = ingest_flow(study.ingest.model_copy(update={"source": source}), execution)
    else:
        dataset = asked.source
    done = _done(planned.address, execution.workspace)
    if done.get("dataset") == dataset and exists(join(execution.workspace, str(done["report"]))):
        text = f"Nothing is new in {asked.source} since {done['at']}."
        return _nothing(text, str(done["report"]), execution.workspace, planned.address)
    study = study.model_copy(update={"ingest": None, "dataset": dataset})
    report = run_pipeline(recipe.model_copy(update={"studies": (study,)}), execution)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    write_json(_done_uri(planned.address, execution.workspace), {"dataset": dataset, "report": report, "at": now})
    return report


def _placed(asked: InboxRequest) -> tuple[InboxRequest, str]:
    """The form with the name of its source as it is kept, and where that lies."""
    if asked.source.startswith(DATASETS):
        return asked, ""
    place = place_from_form(asked.source)
    if not is_from_a_form() and is_local(place):
        place = str(local_path(place).resolve())
        return asked.model_copy(update={"source": place}), place
    return asked.model_copy(update={"source": asked.source.rstrip("/")}), place


def _kept(planned: Planned, execution: Execution) -> tuple[PipelineRecipe, Execution]:
    """The plan of the first run, made where it is not there yet, with the workers of this one."""
    ref = reference("plans", planned.address)
    path = join(execution.workspace, ref, "plan.yaml")
    if not exists(path):
        made = make_plan(planned.request, execution, get_run_logger().info, shard_size=SHARD_SIZE)
        made = made._replace(pipeline=made.pipeline.model_copy(update={"n_pictures": MAX_PICTURES}))
        # Of two first runs one decides.
        create_bytes(path, plan_text(made, path).encode())
        announced(ref)
    kept = found_recipe(ref, execution.workspace)
    recipe, settings = load_recipe(PipelineRecipe, kept), load_execution(Execution(), kept)
    chosen = {"batch_size": settings.batch_size, "device": settings.device}
    return recipe, execution.model_copy(update=chosen)


def _done_uri(address: str, workspace: str) -> str:
    return join(workspace, reference("plans", address), DONE)


def _done(address: str, workspace: str) -> dict[str, Any]:
    try:
        return dict(read_json(_done_uri(address, workspace)))
    except StoreError:
        return {}


def _nothing(text: str, report: str, workspace: str, address: str) -> str:
    """Say that there is nothing to do, and where the last report lies."""
    get_run_logger().info(text)
    shown = f"{text}\n\n{how_to_open(workspace, report)}\n" if report else f"{text}\n"
    create_markdown_artifact(shown, key=artifact_key("inbox", address), description="Nothing is new")
    return announced(report) if report else ""
