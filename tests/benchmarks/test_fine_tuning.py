"""The table of fine-tuning: who counts how, what is kept, and that the same prior gains nothing."""

import sys
from pathlib import Path

import pytest

from benchmarks import fine_tuning
from benchmarks.fine_tuning import Found, Slices, changes, table
from storage.sources.phantom import PhantomSource
from tests.tasks import tiny
from tests.tasks.trainings import ingested


def test_changes_are_relative_and_of_people() -> None:
    before = Found({"a": 30.0, "b": 32.0}, {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.2, 0.2, 0.2, 0.2]})
    after = Found({"a": 31.0, "b": 32.5}, {"a": [0.05, 0.2, 0.3, 0.4], "b": [0.4, 0.2, 0.2, 0.1]})
    # Half of one person's error and twice another's is no change.
    assert changes(after, before) == pytest.approx([0, 0, 0, 0.5**0.5 - 1])
    slices = Slices("heads", ["a", "a", "b"], ["1", "2", "3"], None, None)
    rows = table(slices, {"TV": Found({"a": 28.0, "b": 29.0}, {}), "ct-128": before, "20 people": after})
    assert rows[0] == "## heads: 2 people, 3 slices"
    assert rows[-3].startswith("| TV | 28.50 ")
    assert rows[-2].split(" | ")[4:6] == ["0.1500", "0.2000"]
    last = rows[-1].split(" | ")
    assert (last[2].split()[0], last[3], last[4]) == ("0.75", "0.50", "+0.0 %")


def test_what_is_kept_is_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = ingested(str(tmp_path / "data"), PhantomSource(n_volumes=2, n_slices=2, size=32, pixel_mm=10.0))
    image = fine_tuning.DatasetStore.open(uri).contract
    prior = tiny.prior(tmp_path / "prior", image=image)
    monkeypatch.setattr(fine_tuning, "BEFORE", prior)
    words = ["--data", "phantoms", uri, "--prior", "the same", prior, "--slices", "1"]
    words += ["--keep", str(tmp_path / "kept"), "--output", str(tmp_path / "out.md")]
    monkeypatch.setattr(sys, "argv", ["fine_tuning", *words])
    fine_tuning.main()
    page = (tmp_path / "out.md").read_text()
    assert "## phantoms: 2 people, 2 slices" in page
    assert "| the same | " in page.replace("[", "|")
    assert page.splitlines()[-1].count("+0.0 %") == len(fine_tuning.SIGMAS)
    monkeypatch.setattr(fine_tuning, "measured", None)
    fine_tuning.main()
    assert (tmp_path / "out.md").read_text() == page
