"""What a Prefect server needs for scoreinv: made where it is missing, changed where it is another, else left alone."""

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, cast

import yaml
from prefect import Flow
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentUpdate,
    GlobalConcurrencyLimitCreate,
    WorkPoolCreate,
)
from prefect.client.schemas.schedules import construct_schedule
from prefect.events.actions import CallWebhook, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.variables import Variable

from flows.events import DATASET_INGESTED, STARTED_AS
from flows.forms import ROOTS_VARIABLE
from flows.inbox import inbox_flow
from scoreinv.shipped import deployments_file
from scoreinv.spec import label
from storage.roots import checked_roots
from tasks.artifacts import artifact_key
from tasks.running.gpu_slot import limit_name

POOL, QUEUE = "scoreinv", "accelerator"
"""The work pool of prefect.yaml, and its queue of whatever may run a network."""

WEBHOOK = "scoreinv-failed-run"
"""The block that keeps the address, which may hold a key."""

RECONSTRUCT_INGESTED, TELL_FAILED = "scoreinv: reconstruct what was ingested", "scoreinv: tell of failed runs"
"""Automations."""

TOLD = """{"run": {{ flow_run.name|tojson }}, "id": "{{ flow_run.id }}", "deployment": {{ deployment.name|tojson }}, \
"state": "{{ flow_run.state.name }}", "page": "{{ flow_run|ui_url }}"}"""
"""What the webhook gets of a failed run: names alone, as messages may hold paths."""


class Wishes(NamedTuple):
    """What ``scoreinv deploy`` was told beyond prefect.yaml."""

    roots: Mapping[str, str] = {}
    """To register; an empty place takes a root away."""
    inboxes: Sequence[str] = ()
    """Folders, as ROOT/folder, to look into at the times of ``cron``."""
    cron: str = "0 2 * * *"
    webhook: str = ""
    """To call when a run fails; empty: as it is."""
    reconstructs: bool | None = None
    """Whether a data set that the ingest deployment made is reconstructed at once; None: as it is, at first not."""
    form: Mapping[str, str] = {}
    """What the form of ``inboxes`` says beside its source, where that is not what is usual."""


def limits() -> dict[str, int]:
    """Slots of each global concurrency limit; an operator's own number stays."""
    return {limit_name(): 1}


async def deploy(wishes: Wishes) -> list[str]:
    """Bring the server of PREFECT_API_URL to what is wanted; what was changed, one sentence each."""
    async with get_client() as client:
        return [
            *await _pool(client),
            *await _limits(client),
            *await _roots(wishes.roots),
            *await _deployments(client),
            *await _schedules(client, wishes),
            *await _automations(client, wishes),
        ]


async def _pool(client: PrefectClient) -> list[str]:
    made = []
    try:
        await client.read_work_pool(POOL)
    except ObjectNotFound:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        made.append(f"work pool {POOL}")
    try:
        await client.read_work_queue_by_name(QUEUE, work_pool_name=POOL)
    except ObjectNotFound:
        await client.create_work_queue(name=QUEUE, work_pool_name=POOL, concurrency_limit=1)
        made.append(f"work queue {QUEUE}: one run at a time")
    return made


async def _limits(client: PrefectClient) -> list[str]:
    made = []
    for name, slots in limits().items():
        try:
            await client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))
            made.append(f"limit {name}: {slots}")
    return made


async def _roots(wanted: Mapping[str, str]) -> list[str]:
    found = await Variable.aget(ROOTS_VARIABLE)
    merged = {**(found if isinstance(found, dict) else {}), **wanted}
    roots = checked_roots({name: place for name, place in merged.items() if place})
    if not wanted or roots == found:
        return []
    await Variable.aset(ROOTS_VARIABLE, roots, overwrite=True)
    return [f"roots: {', '.join(sorted(roots)) or 'none'}"]


async def _deployments(client: PrefectClient) -> list[str]:
    said = (await _deployment(client, about) for about in read_deployments())
    return [sentence async for sentence in said if sentence]


def read_deployments() -> list[dict[str, Any]]:
    """The deployments of prefect.yaml."""
    return list(yaml.safe_load(deployments_file().read_text())["deployments"])


async def _deployment(client: PrefectClient, about: Mapping[str, Any]) -> str:
    """Make or change one; what was done, empty for nothing."""
    flow = flow_of(about["entrypoint"])
    wanted = _fields(about, flow)
    full_name = f"{flow.name}/{about['name']}"
    try:
        found = await client.read_deployment_by_name(full_name)
    except ObjectNotFound:
        await client.create_deployment(await client.create_flow(flow), name=about["name"], **wanted)
        return f"deployment {full_name}"
    changed = [name for name, value in wanted.items() if getattr(found, name) != value]
    if not changed:
        return ""
    # Not its schedules: whoever uses a deployment makes them.
    await client.update_deployment(found.id, DeploymentUpdate.model_validate(wanted))
    return f"deployment {full_name}: {', '.join(changed)}"


def flow_of(entrypoint: str) -> Flow[..., Any]:
    """The flow that prefect.yaml names as flows/name.py:name_flow."""
    path, name = entrypoint.split(":")
    found = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    if not isinstance(found, Flow):
        raise TypeError(f"{entrypoint} is no flow")
    return found


def _fields(about: Mapping[str, Any], flow: Flow[..., Any]) -> dict[str, Any]:
    pool = about["work_pool"]
    path, name = about["entrypoint"].split(":")
    return {
        # As a module, so that a worker needs no checkout.
        "entrypoint": f"{path.removesuffix('.py').replace('/', '.')}.{name}",
        "description": about["description"],
        "tags": about["tags"],
        "parameters": about.get("parameters", {}),
        "work_pool_name": pool["name"],
        "work_queue_name": pool.get("work_queue_name", "default"),
        "job_variables": pool.get("job_variables", {}),
        "parameter_openapi_schema": form_of(flow),
        "enforce_parameter_schema": True,
        # Without a step, Prefect copies the folder of the worker, results and all, for every run.
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": "."}}],
    }


def form_of(flow: Flow[..., Any]) -> dict[str, Any]:
    """The schema of which a form is made; its labels are words, as those of the boxes within it are."""
    schema: dict[str, Any] = json.loads(json.dumps(parameter_schema(flow).model_dump_for_openapi()))
    for name, field in schema["properties"].items():
        field["title"] = label(name)
    return schema


async def _schedules(client: PrefectClient, wishes: Wishes) -> list[str]:
    """A schedule of the inbox for each folder that has none yet."""
    inbox = await client.read_deployment_by_name("inbox/inbox")
    there = {schedule.slug: schedule.parameters for schedule in inbox.schedules}
    said = []
    for folder in dict.fromkeys(wishes.inboxes):
        slug, parameters = artifact_key(folder), inbox_flow.validate_parameters({"source": folder, **wishes.form})
        parameters = {name: parameters[name] for name in ("source", *wishes.form)}
        if slug not in there:
            when = construct_schedule(cron=wishes.cron, timezone="UTC")
            await client.create_deployment_schedules(inbox.id, [(when, True)], parameters=parameters, slug=slug)
            said.append(f"schedule of {folder}: {wishes.cron} (UTC)")
        elif there[slug] != parameters:
            said.append(f"schedule of {folder}: left as it is, with other fields: change it on the page of inbox")
    return said


async def _automations(client: PrefectClient, wishes: Wishes) -> list[str]:
    made = [await _automation(client, await _reconstruct_ingested(client), wishes.reconstructs)]
    if wishes.webhook:
        made.append(await _webhook(wishes.webhook))
    try:
        block = (await client.read_block_document_by_name(WEBHOOK, "webhook")).id
    except ObjectNotFound:
        return [sentence for sentence in made if sentence]
    made.append(await _automation(client, tell_failed(CallWebhook(block_document_id=block, payload=TOLD)), True))
    return [sentence for sentence in made if sentence]


async def _reconstruct_ingested(client: PrefectClient) -> AutomationCore:
    target = await client.read_deployment_by_name("inbox/ingested")
    parameters = {"source": _template("dataset"), "workspace": _template("workspace")}
    return AutomationCore(
        name=RECONSTRUCT_INGESTED,
        description="What the deployment ingest made is reconstructed by the deployment ingested, once.",
        enabled=False,
        trigger=EventTrigger(
            expect={DATASET_INGESTED}, match={STARTED_AS: "ingest"}, posture=Posture.Reactive, threshold=1, within=0
        ),
        actions=[RunDeployment(deployment_id=target.id, parameters=parameters)],
    )


def _template(key: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": f"{{{{ event.payload.{key} }}}}"}


def tell_failed(action: CallWebhook) -> AutomationCore:
    """The automation that tells of every run of a deployment that failed; not of the stages within it."""
    return AutomationCore(
        name=TELL_FAILED,
        description="A run of a deployment failed or crashed.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "deployment"},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
            within=0,
        ),
        actions=[action],
    )


async def _webhook(url: str) -> str:
    try:
        found = cast(Webhook, await Webhook.aload(WEBHOOK))
        if found.url.get_secret_value() == url:
            return ""
    except ValueError:  # there is none
        pass
    await Webhook(url=url).save(WEBHOOK, overwrite=True)
    return f"webhook in the block {WEBHOOK}"


async def _automation(client: PrefectClient, wanted: AutomationCore, is_enabled: bool | None) -> str:
    found: Sequence[Any] = await client.read_automations_by_name(wanted.name)
    enabled = is_enabled if is_enabled is not None else found[0].enabled if found else wanted.enabled
    wanted = wanted.model_copy(update={"enabled": enabled})
    if not found:
        await client.create_automation(wanted)
    elif _shown(found[0]) != _shown(wanted):
        await client.update_automation(found[0].id, wanted)
    else:
        return ""
    return f"automation {wanted.name!r}, {'on' if enabled else 'off'}"


def _shown(automation: AutomationCore) -> dict[str, Any]:
    fields = {"description", "enabled", "trigger", "actions"}
    content: dict[str, Any] = json.loads(automation.model_dump_json(include=fields))
    content["trigger"].pop("id", None)
    return {name: _sorted(value) for name, value in content.items()}


def _sorted(value: Any) -> Any:
    """JSON with its lists, which were sets, in one order."""
    if isinstance(value, dict):
        return {name: _sorted(item) for name, item in value.items()}
    return sorted((_sorted(item) for item in value), key=json.dumps) if isinstance(value, list) else value
