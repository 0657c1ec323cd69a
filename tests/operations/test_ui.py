"""An operator's walk through the pages of Prefect, with everything in buckets: forms, faults, growth, schedules.

make test-ui        (needs PostgreSQL, Ceph's radosgw and Chromium, see ``installation.py`` and ``browser.py``)

The steps follow each other. Pictures of the pages go into a folder that is printed.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from storage.datasets import DatasetStore
from storage.uri import join, list_names, read_bytes, read_json
from tests.operations.browser import Pages, browser
from tests.operations.installation import ENDS, Installation, installation
from tests.operations.postgresql import PASSWORD
from tests.operations.processes import until
from tests.operations.studies import N_SLICES, arrive

pytestmark = [pytest.mark.ui, pytest.mark.timeout(5400)]

RUN_SECONDS = 1200
"""On a machine that is busy with other things."""

FORM = {"source": "scans/chest", "prior": "ct-128", "workspace": "archive/results"}


@pytest.fixture(scope="module")
def pictures() -> Path:
    return Path(tempfile.mkdtemp(prefix="scoreinv-pages-"))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def site(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """With the studies of two people; every version of an object is kept, so that what is made twice is seen."""
    with installation(tmp_path_factory.mktemp("site")) as made:
        boto3.client("s3").put_bucket_versioning(
            Bucket=made.archive.removeprefix("s3://"), VersioningConfiguration={"Status": "Enabled"}
        )
        arrive(made.scans, 0)
        arrive(made.scans, 1)
        yield made


@pytest.fixture(scope="module")
def pages(chromium: Any, site: Installation, pictures: Path) -> Pages:
    opened = Pages(chromium.new_page(viewport={"width": 1300, "height": 1000}), site.page, pictures)
    opened.sign_in(f"operator:{PASSWORD}")
    return opened


def test_a_form_leads_to_a_report(site: Installation, pages: Pages) -> None:
    pages.open_form("inbox")
    pages.fill(**FORM, preset="fast")
    pages.picture("form")
    run = pages.submit()
    seen = progress_seen(site, pages, run)
    assert ended(site, run) == "COMPLETED"
    assert len(set(seen)) > 2, seen
    (last,) = artifacts(site, run, "progress")
    assert (last["data"], last["key"]) == (100, f"progress-{run[:8]}")
    pages.open_run(run, "Artifacts")
    pages.picture("completed")
    assert pages.text().count("Open the report: Sparse-view CT, 23 views") == 1
    assert shown_pictures(site, pages, run) >= N_SLICES
    assert people_of(site) == 2


def test_a_worker_that_is_killed_and_a_retry(site: Installation, pages: Pages) -> None:
    pages.open_form("inbox")
    pages.fill(**FORM, preset="fast", measurement="sparse-view CT, 60 views")
    run = pages.submit()
    until(
        lambda: "by bregman" in str(artifacts(site, run, "progress")),
        "it reconstructs with the prior",
        seconds=RUN_SECONDS,
    )
    before = markers(site)
    worker = next(name for name in site.workers if f"Worker '{name}' submitting" in said(site, run))
    process = psutil.Process(site.workers[worker].pid)
    of_run = process.children(recursive=True)
    process.kill()
    assert ended(site, run) == "CRASHED"
    until(lambda: not any(one.is_running() for one in of_run), "nothing of it runs", seconds=RUN_SECONDS)
    pages.open_run(run)
    pages.picture("crashed")
    pages.retry()
    until(
        lambda: site.run(run)["state"]["type"] not in ("CRASHED", "SCHEDULED"),
        "the other worker has it",
        seconds=RUN_SECONDS,
    )
    assert ended(site, run) == "COMPLETED"
    assert before.items() <= markers(site).items(), "what was done is not made again"
    assert "by tv: all 4 slices are done already" in said(site, run)
    site.start_worker(worker)


def test_nothing_new_is_nothing_to_do(site: Installation, pages: Pages) -> None:
    before = objects(site, "done/")
    pages.open_form("inbox")
    pages.fill(**FORM, preset="fast", measurement="sparse-view CT, 60 views")
    run = pages.submit()
    assert ended(site, run) == "COMPLETED"
    assert objects(site, "done/") == before
    assert "Nothing is new in scans/chest since 20" in said(site, run)
    assert len(stages(site, run)) == 1, "it looks at the folder"
    print(f"nothing new: {site.run(run)['total_run_time']:.0f} s")


def test_one_study_more_costs_one_study(site: Installation, pages: Pages) -> None:
    before = markers(site)
    name = arrive(site.scans, 2)
    pages.open_form("inbox")
    pages.fill(**FORM, preset="fast")
    run = pages.submit()
    assert ended(site, run) == "COMPLETED"
    assert before.items() <= markers(site).items()
    assert "Ingesting into" in said(site, run)
    assert slices_made(site, run) == {N_SLICES}, f"of {name} alone"
    assert people_of(site) == 3


def test_a_schedule_that_is_made_on_the_page(site: Installation, pages: Pages) -> None:
    arrive(site.scans, 3)
    before = {run["id"] for run in runs(site)}
    pages.open_deployment("inbox")
    pages.schedule("* * * * *", **FORM, preset="fast")
    until(
        lambda: any(run["start_time"] for run in runs(site) if run["id"] not in before),
        "a scheduled run has begun",
        seconds=RUN_SECONDS,
    )
    site.call("prefect", "deployment", "schedule", "clear", "inbox/inbox", "--accept-yes")
    (run,) = [run["id"] for run in runs(site) if run["id"] not in before and run["start_time"]][:1]
    assert site.run(run)["auto_scheduled"]
    assert ended(site, run) == "COMPLETED"
    assert slices_made(site, run) == {N_SLICES}
    assert people_of(site) == 4


def test_a_run_that_is_cancelled_is_soon_called_so(site: Installation, pages: Pages) -> None:
    until(
        lambda: not any(run["state_type"] not in ENDS for run in runs(site)), "nothing else runs", seconds=RUN_SECONDS
    )
    pages.open_form("inbox")
    pages.fill(**FORM, preset="fast", measurement="limited-angle CT, 120 degrees")
    run = pages.submit()
    until(lambda: "Reconstructing" in str(artifacts(site, run, "progress")), "it reconstructs", seconds=RUN_SECONDS)
    pages.open_run(run)
    pages.cancel()
    until(lambda: site.run(run)["state"]["name"] == "Cancelling", "it is asked to stop")
    assert ended(site, run) == "CANCELLED"
    assert "Traceback" not in said(site, run)


def test_two_operators_press_the_button_at_once(
    site: Installation, pages: Pages, chromium: Any, pictures: Path
) -> None:
    site.call("prefect", "work-queue", "set-concurrency-limit", "accelerator", "2", "--pool", "scoreinv")
    until(
        lambda: not any(run["state_type"] not in ENDS for run in runs(site)), "nothing else runs", seconds=RUN_SECONDS
    )
    second = Pages(chromium.new_context().new_page(), site.page, pictures)
    second.sign_in(f"operator:{PASSWORD}")
    for one in (pages, second):
        one.open_form("inbox")
        one.fill(**FORM, preset="fast", measurement="limited-angle CT, 120 degrees")
    both = [one.submit() for one in (pages, second)]
    assert [ended(site, run) for run in both] == ["COMPLETED"] * 2
    words = [said(site, run) for run in both]
    assert any("following it" in one for one in words)
    assert len(set(ends_with(site, both))) == 1, "both end with the same report"
    twice = {key: n for key, n in objects(site, "/done/").items() if n > 1}
    assert twice == {}, "no shard is done twice, in all of these steps"


def progress_seen(site: Installation, pages: Pages, run: str) -> Sequence[str]:
    """What the card of the progress said, as long as the run goes on; there is one card."""
    seen: list[str] = []

    def look() -> bool:
        pages.show("Artifacts")
        lines = [line for line in pages.text().splitlines() if " slices: " in line]
        assert len(lines) <= 1, lines
        if lines and lines[0] not in seen:
            seen.append(lines[0])
            pages.picture(f"progress-{len(seen)}")
        return site.run(run)["state"]["type"] in ENDS

    pages.open_run(run, "Artifacts")
    until(look, "the run has ended", seconds=RUN_SECONDS)
    return seen


def ended(site: Installation, run: str) -> str:
    """The state in which a run ends."""
    until(lambda: site.run(run)["state"]["type"] in ENDS, f"{site.run(run)['name']} has ended", seconds=RUN_SECONDS)
    state = site.run(run)["state"]
    print(f"{state['name']}: {state['message']}")
    if state["type"] == "COMPLETED":
        # The last lines of a log arrive a little later than the state.
        n = 1 + len(stages(site, run))
        until(lambda: said(site, run).count("Finished in state Completed()") >= n, "its log is whole")
    return str(state["type"])


def runs(site: Installation) -> list[dict[str, Any]]:
    """All runs of the inbox, the stages within them left out."""
    found: list[dict[str, Any]] = site.ask("flow_runs/filter", deployments={"name": {"any_": ["inbox"]}})
    return found


def stages(site: Installation, run: str) -> list[dict[str, Any]]:
    """The runs of the stages within a run, and of the tasks that stand for them."""
    found: list[dict[str, Any]] = site.ask(
        "flow_runs/filter", flow_runs={"parent_flow_run_id": {"any_": [run]}}, sort="START_TIME_ASC"
    )
    return found


def said(site: Installation, run: str) -> str:
    """The logs of a run and of the stages within it."""
    idents = [run, *(one["id"] for one in stages(site, run))]
    lines = site.ask("logs/filter", logs={"flow_run_id": {"any_": idents}}, sort="TIMESTAMP_ASC")
    return "\n".join(line["message"] for line in lines)


def ends_with(site: Installation, both: Sequence[str]) -> list[str]:
    """The last result that each run names."""
    return [said(site, run).rpartition("result: ")[2].split()[0] for run in both]


def slices_made(site: Installation, run: str) -> set[int]:
    """The numbers of slices that stages of a run had left to do."""
    lines = [line for line in said(site, run).splitlines() if line.startswith(("Reconstructing", "Ingesting"))]
    begun = [line.rpartition(": ")[2] for line in lines if re.search(r": \d+ slices", line)]
    print("\n".join(begun))
    return {_left(words) for words in begun}


def _left(words: str) -> int:
    """Of "8 slices, 6 are done already"."""
    total, _, done = words.partition(" slices")
    return int(total) - int("".join(digit for digit in done if digit.isdigit()) or 0)


def artifacts(site: Installation, run: str, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.ask(
        "artifacts/filter", artifacts={"flow_run_id": {"any_": [run]}, "type": {"any_": [kind]}}
    )
    return found


def shown_pictures(site: Installation, pages: Pages, run: str) -> int:
    """How many pictures the report shows to which the page of a run leads, link by link."""
    pages.page.get_by_role("link", name=f"reports-{report_of(site, run)}-link").click()
    (link,) = [one for one in artifacts(site, run, "markdown") if one["key"].endswith("-link")]
    pages.page.get_by_role("link", name=link["id"][:8]).click()
    pages.page.get_by_role("link", name="Open the report").click()
    pages.page.wait_for_url(f"{site.reports}/**")
    pages.picture("report")
    return int(pages.page.evaluate("[...document.images].filter(image => image.naturalWidth > 50).length"))


def report_of(site: Installation, run: str) -> str:
    return ends_with(site, [run])[0].split("/")[1]


def markers(site: Installation) -> dict[str, bytes]:
    """What says of each shard of a reconstruction that it is done."""
    folder = join(site.workspace, "reconstructions")
    done = [join(folder, name, "done") for name in list_names(folder)]
    return {join(one, name): read_bytes(join(one, name)) for one in done for name in list_names(one)}


def objects(site: Installation, part: str) -> dict[str, int]:
    """How often each object of the workspace was written whose key has this part."""
    listing = boto3.client("s3").get_paginator("list_object_versions")
    counts: dict[str, int] = {}
    for answer in listing.paginate(Bucket=site.archive.removeprefix("s3://")):
        for one in answer.get("Versions", ()):
            counts[one["Key"]] = counts.get(one["Key"], 0) + (part in one["Key"])
    return {key: n for key, n in counts.items() if n}


def people_of(site: Installation) -> int:
    """Of how many people the largest data set is that a plan was carried out for."""
    plans = join(site.workspace, "plans")
    refs = [read_json(join(plans, name, "done.json"))["dataset"] for name in list_names(plans)]
    return max(len(DatasetStore.open(join(site.workspace, ref))) for ref in refs) // N_SLICES
