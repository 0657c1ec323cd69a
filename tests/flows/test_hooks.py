"""A run that was cancelled is called so as soon as its process is gone: nobody loads the flows for hooks."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import prefect.runner
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from flows.deployment import flow_of, read_deployments

ROOT = Path(__file__).parents[2]
BOOTSTRAP = Path(str(prefect.runner.__file__)).with_name("_workspace_runtime_bootstrap.py")


def test_no_flow_has_hooks() -> None:
    flows = [flow_of(about["entrypoint"]) for about in read_deployments()]
    assert flows
    assert not [flow.name for flow in flows if flow.on_cancellation_hooks or flow.on_crashed_hooks]


def test_a_worker_that_looks_for_hooks_loads_no_torch(tmp_path: Path) -> None:
    """By Prefect's own program: if it has another name one day, this fails, and Cancelling lasts longer."""
    manifest, run, state = (tmp_path / name for name in ("manifest.json", "run.json", "state.json"))
    manifest.write_text(f'{{"runtime_entrypoint": "flows.inbox.inbox_flow", "working_directory": "{tmp_path}"}}')
    run.write_text(FlowRun(flow_id=uuid4()).model_dump_json())
    state.write_text(Cancelling().model_dump_json())
    command = [sys.executable, "-v", str(BOOTSTRAP), "hook", "cancellation", str(manifest), str(run), str(state)]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "import 'flows'" not in done.stderr, "it ends within it"
    assert f"{ROOT / 'flows' / '__init__.py'}" in done.stderr
    assert "import 'torch'" not in done.stderr


def test_other_processes_load_the_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(BOOTSTRAP), "engine", "flows.inbox.inbox_flow"])
    monkeypatch.delitem(sys.modules, "flows")
    assert import_module("flows").__file__
