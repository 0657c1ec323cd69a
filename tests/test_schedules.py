"""A real Prefect server: a schedule makes runs, and one limit holds for all deployments that take the accelerator."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Running

from tests.test_deployments import DEPLOYMENTS


def test_a_schedule_makes_runs(server: str) -> None:
    async def scheduled() -> int:
        async with PrefectClient(server) as client:
            flow = await client.create_flow_from_name("nightly")
            schedule = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(minutes=1)))
            made = await client.create_deployment(flow, name="every-minute", schedules=[schedule])
            wanted = DeploymentFilter(id=DeploymentFilterId(any_=[made]))
            end = time.monotonic() + 30
            while time.monotonic() < end:
                if runs := await client.read_flow_runs(deployment_filter=wanted):
                    assert all(run.state_type and run.state_type.value == "SCHEDULED" for run in runs)
                    return len(runs)
                await asyncio.sleep(0.5)
        return 0

    assert asyncio.run(scheduled()) >= 3


def test_one_run_at_a_time_takes_the_accelerator_whatever_its_deployment(server: str) -> None:
    """The queues are those of prefect.yaml; what is asked is what a worker asks."""
    chosen = {d["name"]: d for d in DEPLOYMENTS if d["name"] in ("tune", "train", "reconstruct", "demo", "ingest")}

    async def offered() -> tuple[set[str], set[str]]:
        async with PrefectClient(server) as client:
            with suppress(ObjectAlreadyExists):
                await client.create_work_pool(WorkPoolCreate(name="scoreinv", type="process"))
                await client.create_work_queue(name="accelerator", work_pool_name="scoreinv", concurrency_limit=1)
            names = {await _started(client, deployment): name for name, deployment in chosen.items()}
            first = await _offers(client, names)
            (taken,) = [run for run, name in names.items() if name in first and name != "ingest"]
            await client.set_flow_run_state(taken, Running(), force=True)
            return first, await _offers(client, names)

    first, then = asyncio.run(offered())
    assert "ingest" in first
    assert len(first) == 2
    assert then == {"ingest"}


async def _started(client: PrefectClient, deployment: dict[str, dict[str, str]]) -> UUID:
    pool = deployment["work_pool"]
    made = await client.create_deployment(
        await client.create_flow_from_name(str(deployment["name"])),
        name=str(deployment["name"]),
        work_pool_name=pool["name"],
        work_queue_name=pool.get("work_queue_name"),
    )
    return (await client.create_flow_run_from_deployment(made)).id


async def _offers(client: PrefectClient, names: dict[UUID, str]) -> set[str]:
    soon = datetime.now(UTC) + timedelta(seconds=10)
    found = await client.get_scheduled_flow_runs_for_work_pool("scoreinv", scheduled_before=soon)
    return {names[response.flow_run.id] for response in found}
