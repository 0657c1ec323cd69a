"""A folder to which studies are added: the first run chooses for all later ones, which make what is new alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.exceptions import ParameterTypeError

from flows.inbox import inbox_flow, run_inbox
from scoreinv.errors import UserError
from storage.datasets import DatasetStore
from tasks.planning.inbox import InboxRequest, plan_request
from tasks.planning.plan import make_plan
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tasks.workers import probe
from tests.flows.test_flows import artifacts_of
from tests.flows.test_growth import add_head, n_markers, settle
from tests.tasks import tiny

CANARY = "canary-of-the-environment-7c1f"


@flow(name="inbox-inline")
def inline_inbox(asked: InboxRequest, workspace: str) -> str:
    """As the flow, in this process."""
    return run_inbox(asked, Execution(workspace=workspace, cluster=Inline()).absolute())


def asked(scans: Path, **options: Any) -> InboxRequest:
    options = {"files": "MRI in NIfTI files", "measurement": "MRI, 4 times faster", "preset": "fast"} | options
    return InboxRequest(source=str(scans), **options)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a tiny prior, which fits heads of 80 mm best."""
    for name in ("CALL_SECONDS", "LONG_CALL_SECONDS", "STEPS_SECONDS"):
        monkeypatch.setattr(probe, name, 0.0)
    settle(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    image = tiny.MRI.model_copy(update={"pixel_mm": 5.0})
    tiny.prior(tmp_path / "workspace" / "priors" / "near" / "prior", image=image)
    return tmp_path / "workspace"


def run(request: InboxRequest, workspace: Path) -> str:
    return inline_inbox(request, str(workspace))


@pytest.mark.usefixtures("prefect_server")
def test_later_runs_make_what_is_new_as_the_first_one_chose(tmp_path: Path, workspace: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    assert run(asked(scans), workspace) == ""
    assert not list(workspace.glob("plans/*"))

    add_head(scans, "ant")
    first = run(asked(scans), workspace)
    (plan,) = workspace.glob("plans/*/plan.yaml")
    assert "priors/near" in plan.read_text()
    before, reports = n_markers(workspace), sorted(workspace.glob("reports/*/*"))

    # Nothing is new, though another prior would fit better now.
    finer = tiny.MRI.model_copy(update={"pixel_mm": 2.5, "size": 32})
    tiny.prior(workspace / "priors" / "finer" / "prior", image=finer)
    assert run(asked(scans), workspace) == first
    assert (n_markers(workspace), sorted(workspace.glob("reports/*/*"))) == (before, reports)
    said = str(artifacts_of("inbox-inline")[0].data)
    assert said.startswith(f"Nothing is new in {scans} since 20")
    assert first in said

    add_head(scans, "bee")
    second = run(asked(scans), workspace)
    assert second != first
    assert n_markers(workspace) == {stage: n + (3 if stage == "reconstructions" else 1) for stage, n in before.items()}
    assert [path.name for path in workspace.glob("plans/*")] == [plan.parent.name]
    dataset = json.loads((plan.parent / "done.json").read_text())["dataset"]
    assert len(DatasetStore.open(str(workspace / dataset))) == 10
    # What would be chosen today is something else.
    request = plan_request(asked(scans), str(scans), str(workspace)).request
    now = make_plan(request, Execution(workspace=str(workspace), cluster=Inline()), print)
    assert now.draft.prior.name == "priors/finer"

    # The same data set by its name has the same prior again.
    run(asked(scans).model_copy(update={"source": dataset}), workspace)
    files = [path for path in workspace.rglob("*") if path.is_file() and ".prefect" not in path.parts]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_a_plan_is_kept_for_what_the_form_says(tmp_path: Path) -> None:
    def address(**options: Any) -> str:
        return plan_request(asked(tmp_path, **options), str(tmp_path), "workspace").address

    changes = ({"prior": "mri-128"}, {"preset": "best"}, {"measurement": "MRI, 8 times faster"})
    others = [address(**one) for one in changes]
    assert len({address(), *others}) == 4
    usual = {address(measurement=one) for one in ("what is usual for such images", "MRI, 8 times faster")}
    assert len(usual) == 2, "what is usual may change one day"


def test_a_measurement_of_other_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no measurement of MRI images"):
        plan_request(asked(tmp_path, measurement="sparse-view CT, 23 views"), str(tmp_path), "workspace")


def test_a_form_takes_what_a_schedule_sends() -> None:
    assert inbox_flow.validate_parameters({"source": "scans/chest"})["n_workers"] == 0
    for wrong in ({}, {"source": ""}, {"source": "x", "preset": "slow"}, {"source": "x", "n_workers": -1}):
        with pytest.raises((ParameterTypeError, TypeError)):
            inbox_flow.validate_parameters(wrong)
