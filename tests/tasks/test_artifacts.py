"""What a run's page shows: keys that Prefect takes, and how a report is opened."""

import pytest

from storage.reports import write_report
from storage.uri import join
from tasks.artifacts import EMBEDDED_BYTES, artifact_key, embedded_pictures, how_to_open, key_of, plain, report_url

REF = "reports/0a1b2c3d4e5f/report.html"


@pytest.mark.parametrize("uri", ["/a/scores/0a1b", "scores/0a1b/", "s3://bucket/ward/scores/0a1b"])
def test_a_key_is_the_place_in_the_workspace(uri: str) -> None:
    assert key_of(uri) == "scores-0a1b"
    assert artifact_key(key_of(uri), "Picture", "1") == "scores-0a1b-picture-1"


def test_without_an_address_it_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREINV_REPORT_URL", raising=False)
    said = how_to_open("/my results", REF)
    assert "`scoreinv serve --workspace '/my results'`" in said
    assert f"<http://127.0.0.1:4201/{REF}>" in said
    assert report_url(REF) == ""


def test_with_an_address_it_is_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOREINV_REPORT_URL", "https://ward.example/scoreinv/")
    assert how_to_open("/w", REF) == f"[Open the report](https://ward.example/scoreinv/{REF})"


@pytest.mark.parametrize("wrong", ["file:///w", "ward.example", "javascript:alert(1)", "http://a b", "https://"])
def test_an_address_that_no_browser_opens_is_said_and_not_linked(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SCOREINV_REPORT_URL", wrong)
    said = how_to_open("/w", REF)
    assert "run `scoreinv serve --workspace /w`" in said
    assert f"SCOREINV_REPORT_URL is no http address: {wrong}" in said
    assert report_url(REF) == ""


def test_every_section_has_a_picture_before_any_has_two() -> None:
    uri, half = "memory://pictures/reports/0a1b2c3d4e5f", b"x" * (EMBEDDED_BYTES // 2)
    write_report(uri, "", {}, dict.fromkeys(("a.png", "b.png", "c.png"), half))
    sections = [{"pictures": [{"file": "a.png"}, {"file": "b.png"}]}, {"pictures": [{"file": "c.png"}]}]
    assert list(embedded_pictures(uri, sections)) == ["a.png", "c.png"]
    assert list(embedded_pictures(join(uri), [])) == []


def test_names_of_people_and_slices_are_shown_as_they_are() -> None:
    assert plain("a_b* [c](d)\n<e>") == r"a\_b\* \[c\](d) \<e\>"
