"""From DICOM with names in every place to a report: where the names are afterwards, and who may read them."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from storage.datasets import DatasetStore
from tests.storage import dicom_files as files

ROOT = Path(__file__).parents[2]
MARK = "Xanthippe"
"""In every name there is: of people, folders and files, and in what the recipe says of them."""
UIDS = [files.uid(*words, f"{MARK}-{i}") for words in ((), ("study",)) for i in range(3)]
MARKERS = [MARK, *UIDS]


def scans(folder: Path) -> None:
    """Three people with two slices each, one file twice, and one that is cut off."""
    for i in range(3):
        patient = {"PatientID": f"{MARK}-{i}", "PatientName": f"{MARK}^{i}", "SeriesDescription": f"of {MARK}"}
        files.write_series(folder / f"{MARK}^{i}", [0, 1], series=f"{MARK}-{i}", **patient)
    content = (folder / f"{MARK}^0" / "0000.dcm").read_bytes()
    (folder / f"{MARK} again.dcm").write_bytes(content)
    (folder / f"{MARK} cut.dcm").write_bytes(content[:-100])


def recipe(folder: Path) -> dict[str, object]:
    source = {"kind": "dicom", "path": str(folder), "exclude_subjects": [f"{MARK}-2"]}
    image = {"modality": "ct", "size": 16, "pixel_mm": 0.5, "low": -1000, "high": 1000}
    study = {
        "name": "ct",
        "ingest": {"source": source, "image": image, "shard_size": 2},
        "simulation": {"measurement": {"kind": "sparse_view_ct", "n_views": 5, "n_full": 16}},
        "reconstructions": [{"method": {"kind": "direct"}}],
    }
    return {"title": "Three people", "studies": [study]}


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command with a server of its own, whose records lie in the workspace, and the usual umask."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SCOREINV_"))}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    command = [sys.executable, "-m", "flows.cli", *arguments, "--workspace", "workspace"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, umask=0o022
    )


def holding_a_name(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if any(marker.encode() in content or marker in path.name for marker in MARKERS):
            yield path


def stored(database: Path, table: str) -> str:
    with sqlite3.connect(database) as connection:
        return "\n".join(map(str, connection.execute(f"SELECT * FROM {table}").fetchall()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a pipeline has run, with real workers and a server of its own."""
    folder = tmp_path_factory.mktemp("hospital")
    scans(folder / f"{MARK} scans")
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe(folder / f"{MARK} scans")))
    done = run(folder, "pipeline", "mine.yaml", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr
    assert MARK not in done.stdout + done.stderr
    return folder


def test_names_are_in_private_files_alone(place: Path) -> None:
    found = list(holding_a_name(place / "workspace"))
    where = {path.relative_to(place / "workspace").parts[0] for path in found if path.name != "names.json"}
    assert [path.parent.parent.name for path in found if path.name == "names.json"] == ["datasets"]
    # Prefect keeps the recipe of a run.
    assert where <= {".prefect"}
    assert [path for path in found if stat.S_IMODE(path.stat().st_mode) != 0o600] == []
    everything = [place / "workspace", *(place / "workspace").rglob("*")]
    assert [path for path in everything if path.stat().st_mode & 0o077] == []


def test_logs_and_artifacts_name_nobody(place: Path) -> None:
    database = place / "workspace" / ".prefect" / "prefect.db"
    assert MARK in stored(database, "flow_run")
    for table in ("log", "artifact"):
        text = stored(database, table)
        assert text
        assert [marker for marker in MARKERS if marker in text] == []


def test_people_are_told_apart_and_found_again(place: Path) -> None:
    from storage.identities import Hasher

    (uri,) = (place / "workspace" / "datasets").iterdir()
    code = Hasher(str(place / "workspace"))
    assert DatasetStore.open(str(uri)).listing.subjects() == [code(f"{MARK}-{i}") for i in range(2)]
    (scores,) = (place / "workspace" / "scores").iterdir()
    text = (scores / "scores.csv").read_text()
    assert text.count(code(f"{MARK}-0")) == text.count(code(f"{MARK}-1")) == 2
    (report,) = (place / "workspace" / "reports").glob("*/report.html")
    assert code(f"{MARK}-0") in report.read_text()
