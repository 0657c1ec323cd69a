"""What is told to automations: that a data set is there that was not there before."""

from prefect.context import FlowRunContext
from prefect.events import emit_event

from storage.uri import create_bytes, join
from tasks.growth import FOLDER as CATALOGUE

DATASET_INGESTED = "scoreinv.dataset.ingested"

STARTED_AS = "scoreinv.started-as"
"""Label of the event: "ingest" for a run of its own, "stage" within a pipeline, which goes on by itself."""


def tell_ingested(workspace: str, shown: str, ref: str) -> None:
    """Emit the event of a data set, once for each data set of a workspace.

    Args:
        workspace: URI.
        shown: the workspace as whoever started the run wrote it, for a run that an automation starts.
        ref: datasets/<digest>.
    """
    digest = ref.rpartition("/")[2]
    if not create_bytes(join(workspace, CATALOGUE, "told", digest), b""):
        return
    context = FlowRunContext.get()
    is_part = bool(context and context.flow_run and context.flow_run.parent_task_run_id)
    resource = {
        "prefect.resource.id": f"scoreinv.dataset.{digest}",
        "prefect.resource.name": ref,
        STARTED_AS: "stage" if is_part else "ingest",
    }
    emit_event(DATASET_INGESTED, resource, payload={"dataset": ref, "workspace": shown})
