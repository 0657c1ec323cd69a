"""A real Prefect server and worker: what an operator types once, and what then happens by itself."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import nibabel
import numpy as np
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.events.worker import EventsWorker
from prefect.exceptions import ParameterTypeError
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Scheduled

from flows.deployment import RECONSTRUCT_INGESTED, TELL_FAILED, Wishes, deploy, limits
from flows.ingest import ingest_flow
from tests.conftest import until
from tests.tasks import tiny

ROOT = Path(__file__).parents[1]

CRON = f"{datetime.now(UTC) + timedelta(days=60):0 0 %d %m} *"
"""Not while the tests run: a worker of theirs would take the folder's own run too."""

NIGHTLY = """
title: Nightly
n_pictures: 1
studies:
- name: mri
  ingest:
    source: {kind: phantom, modality: mri, n_volumes: 2, n_slices: 3}
    image: {modality: mri, size: 16, pixel_mm: 16.0, low: 0, high: 1}
    shard_size: 1
  simulation: {measurement: {kind: cartesian_mri, acceleration: 2}}
  reconstructions:
  - {method: {kind: dds, grid: {n_levels: LEVELS, sigma_max: 3.0, sigma_min: 0.01}}, prior: priors/tiny}
execution: {cluster: {kind: local, n_workers: 1}, batch_size: 1}
"""


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[SyncPrefectClient]:
    """Of the server, to which flows of this process report as well."""
    with temporary_settings({PREFECT_API_URL: server}), get_client(sync_client=True) as found:
        # Prefect sends events to the server that the first one of the process went to.
        EventsWorker.drain_all(at_exit=False)
        yield found
        EventsWorker.drain_all(at_exit=False)


@pytest.fixture(scope="module")
def heard() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web address on loopback, and what was sent there."""
    told: list[dict[str, Any]] = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Listener) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}/?key=of-the-webhook", told
        listening.shutdown()


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one small head."""
    folder = tmp_path_factory.mktemp("scans")
    values = np.zeros((20, 20, 2), np.int16)
    values[4:16, 4:16] = 500 + np.arange(12)[:, None, None]
    (folder / "in").mkdir()
    nibabel.save(nibabel.Nifti1Image(values, np.diag([4.0, 4.0, 3.0, 1.0])), folder / "in" / "ant.nii.gz")
    return folder


@pytest.fixture(scope="module")
def deployed(client: SyncPrefectClient, heard: tuple[str, Any], scans: Path) -> list[str]:
    """What the first deploy says that it made."""
    return asyncio.run(deploy(wishes(heard[0], scans)))


def wishes(url: str, scans: Path) -> Wishes:
    form = {"files": "MRI in NIfTI files", "workspace": "scans/results"}
    return Wishes({"scans": str(scans)}, inboxes=("scans/in",), cron=CRON, webhook=url, reconstructs=True, form=form)


def test_a_second_deploy_changes_nothing(
    client: SyncPrefectClient, deployed: list[str], heard: tuple[str, Any], scans: Path
) -> None:
    assert {"roots: scans", "webhook in the block scoreinv-failed-run", "deployment inbox/inbox"} < set(deployed)
    assert f"automation {TELL_FAILED!r}, on" in deployed
    assert f"automation {RECONSTRUCT_INGESTED!r}, on" in deployed
    for name, slots in limits().items():
        assert client.read_global_concurrency_limit_by_name(name).limit == slots
    (nightly,) = client.read_deployment_by_name("inbox/inbox").schedules
    form = {"files": "MRI in NIfTI files", "workspace": "scans/results"}
    assert (nightly.parameters, nightly.active) == ({"source": "scans/in", **form}, True)
    assert asyncio.run(deploy(wishes(heard[0], scans))) == []
    assert asyncio.run(deploy(Wishes())) == []
    (said,) = asyncio.run(deploy(Wishes(inboxes=["scans/in"])))
    assert said.startswith("schedule of scans/in: left as it is")
    with pytest.raises(ParameterTypeError, match="preset"):
        asyncio.run(deploy(Wishes(inboxes=["scans/new"], form={"preset": "slow"})))


def test_a_form_reads_below_roots_alone_and_a_failure_is_told(
    client: SyncPrefectClient, deployed: list[str], heard: tuple[str, list[dict[str, Any]]]
) -> None:
    run = started(client, "ingest/ingest", ingest("/etc"))
    with pytest.raises(ValueError, match="'/etc' is not below a registered root: .* scans;"):
        run_flow(ingest_flow, flow_run=run, parameters=run.parameters)
    told = heard[1]
    until(lambda: bool(told))
    assert [(one["deployment"], one["state"], one["id"]) for one in told] == [("ingest", "Failed", str(run.id))]
    assert "/etc" not in json.dumps(told)


def test_what_was_ingested_is_reconstructed(
    client: SyncPrefectClient, deployed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time it is there already
        run = started(client, "ingest/ingest", ingest("scans/in"))
        ref = run_flow(ingest_flow, flow_run=run, parameters=run.parameters)
    until(lambda: bool(runs_of(client, "inbox/ingested")))
    (follower,) = runs_of(client, "inbox/ingested")
    assert follower.parameters == {"source": ref, "workspace": "workspace"}
    client.delete_flow_run(follower.id)


@pytest.mark.timeout(1800)
def test_a_run_that_is_cancelled_stops_and_a_retry_goes_on(
    client: SyncPrefectClient, deployed: list[str], server: str, tmp_path: Path
) -> None:
    recipe, workspace = tmp_path / "nightly.yaml", tmp_path / "workspace"
    recipe.write_text(NIGHTLY.replace("LEVELS", "800"))
    tiny.prior(workspace / "priors" / "tiny" / "prior")
    with worker(server, tmp_path) as process:
        run = started(client, "recipe/recipe", {"recipe": "nightly.yaml"})
        until(lambda: len(markers(workspace)) >= 2)
        assert " of 6 slices: Reconstructing measurements/" in progress(client, run.id).description
        before = markers(workspace)
        client.set_flow_run_state(run.id, Cancelling(), force=True)
        until(lambda: state(client, run.id) == "CANCELLED" and not computing(process))
        assert before.items() <= markers(workspace).items()
        kept = markers(workspace)
        assert len(kept) < 6
        log = (tmp_path / "worker.log").read_text()
        assert "Downloading" not in log, "the folder of the worker is not copied"
        assert "Traceback" not in log
        client.set_flow_run_state(run.id, Scheduled(), force=True)
        until(lambda: state(client, run.id) in ("COMPLETED", "FAILED", "CRASHED") and not computing(process))
    assert state(client, run.id) == "COMPLETED"
    assert len(markers(workspace)) == 6
    assert kept.items() <= markers(workspace).items(), "what was done is not made again"
    shown = progress(client, run.id)
    assert shown.data == 100
    assert "shards: 6 done, 0 failed, 0 left" in shown.description
    (page,) = [one for one in artifacts(client, run.id) if one.type == "markdown"]
    assert "- `reconstructions/" in str(page.data)


def ingest(path: str) -> dict[str, Any]:
    image = {"modality": "mri", "size": 16, "pixel_mm": 5.0, "low": 0, "high": 1}
    recipe = {"source": {"kind": "nifti", "path": path}, "image": image}
    return {"recipe": recipe, "execution": {"cluster": {"kind": "inline"}}}


def started(client: SyncPrefectClient, name: str, parameters: dict[str, Any]) -> FlowRun:
    """A run of a deployment, as a form makes it."""
    return client.create_flow_run_from_deployment(client.read_deployment_by_name(name).id, parameters=parameters)


def runs_of(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    deployment = client.read_deployment_by_name(name).id
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    )


def state(client: SyncPrefectClient, run: UUID) -> str:
    found = client.read_flow_run(run).state
    return found.type.value if found else ""


def artifacts(client: SyncPrefectClient, run: UUID, kind: str | None = None) -> list[Artifact]:
    wanted = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[run]), type=ArtifactFilterType(any_=[kind]) if kind else None
    )
    return client.read_artifacts(artifact_filter=wanted)


def progress(client: SyncPrefectClient, run: UUID) -> Any:
    (found,) = artifacts(client, run, "progress")
    return found


def markers(workspace: Path) -> dict[str, int]:
    """When each shard of the reconstructions was done."""
    return {path.name: path.stat().st_mtime_ns for path in workspace.glob("reconstructions/*/done/*.json")}


def computing(process: "subprocess.Popen[bytes]") -> bool:
    """Whether the worker has a run, or a process of Dask."""
    return bool(psutil.Process(process.pid).children(recursive=True))


@contextmanager
def worker(server: str, folder: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """A worker that takes what is scheduled, in a folder; its log lies there."""
    environment = os.environ | {
        "PREFECT_API_URL": server,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PYTHONPATH": str(ROOT),
        "SCOREINV_RECIPES": str(folder),
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "scoreinv"]
    with (folder / "worker.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:  # it hands SIGINT on to itself, which background jobs ignore
            process.kill()
            process.wait()
