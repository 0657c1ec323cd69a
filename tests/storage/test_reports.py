"""Reports in a workspace: what is listed, and that nothing but a report is ever given away."""

from pathlib import Path

import pytest

from storage.errors import StoreNotFound
from storage.reports import list_reports, report_file, write_report
from storage.uri import join

DIGEST = "0a1b2c3d4e5f"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made(str(tmp_path / "workspace"), DIGEST, "Chest")
    return tmp_path / "workspace"


def made(workspace: str, digest: str, title: str, generated: str = "2026-01-02 03:04 UTC") -> None:
    summary = {"title": title, "generated": generated, "n_slices": 7, "sections": []}
    write_report(
        join(workspace, "reports", digest),
        f"<h1>{title}</h1>",
        summary,
        {"picture-1-1.png": b"png", "scores-1.csv": b"a,b"},
    )


def test_reports_are_listed_newest_first_and_read_back(workspace: Path) -> None:
    made(str(workspace), "1" * 12, "Newer", "2026-01-03 00:00 UTC")
    (workspace / "reports" / ("2" * 12)).mkdir(parents=True)  # no page yet
    found = list_reports(str(workspace))
    assert [(one.digest, one.title, one.n_slices) for one in found] == [("1" * 12, "Newer", 7), (DIGEST, "Chest", 7)]
    assert report_file(str(workspace), DIGEST, "report.html") == b"<h1>Chest</h1>"
    assert report_file(str(workspace), DIGEST, "picture-1-1.png") == b"png"
    assert report_file(str(workspace), DIGEST, "scores-1.csv") == b"a,b"


def test_a_bucket_and_an_empty_workspace_serve_alike(tmp_path: Path) -> None:
    made("memory://ward/workspace", DIGEST, "Chest")
    assert [one.title for one in list_reports("memory://ward/workspace")] == ["Chest"]
    assert report_file("memory://ward/workspace", DIGEST, "report.html") == b"<h1>Chest</h1>"
    assert list_reports(str(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    "summary", ["", "{", "[]", '{"title": "x"}', '{"title": 1, "generated": 2, "n_slices": "many"}']
)
def test_a_report_whose_summary_is_damaged_goes_by_its_digest(workspace: Path, summary: str) -> None:
    (workspace / "reports" / DIGEST / "report.json").write_text(summary)
    (found,) = list_reports(str(workspace))
    assert (found.title, found.generated, found.n_slices) == (DIGEST, "", None)


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        (DIGEST, "report.json"),
        (DIGEST, ".report.html"),
        (DIGEST, "../report.html"),
        (DIGEST, "report.html\n"),
        (DIGEST, "folder.html"),
        (DIGEST, "missing.html"),
        ("..", "secret.html"),
        (f"{DIGEST}/..", "report.html"),
        ("../scores/" + DIGEST, "report.html"),
        (DIGEST.upper(), "report.html"),
        ("", "report.html"),
    ],
)
def test_nothing_else_is_given_away(workspace: Path, digest: str, name: str) -> None:
    (workspace / "secret.html").write_text("secret")
    (workspace / "reports" / DIGEST / ".report.html").write_text("secret")
    (workspace / "reports" / DIGEST / "folder.html").mkdir()
    with pytest.raises(StoreNotFound):
        report_file(str(workspace), digest, name)


def test_a_link_out_of_the_reports_is_not_followed(workspace: Path) -> None:
    (workspace / "scores").mkdir()
    (workspace / "scores" / "report.html").write_text("secret")
    (workspace / "reports" / DIGEST / "link.html").symlink_to(workspace / "scores" / "report.html")
    (workspace / "reports" / ("3" * 12)).symlink_to(workspace / "scores")
    for digest, name in ((DIGEST, "link.html"), ("3" * 12, "report.html")):
        with pytest.raises(StoreNotFound, match="lies outside of the report"):
            report_file(str(workspace), digest, name)
