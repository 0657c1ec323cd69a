"""Files of matrices: made once, whole or not there, and of bounded size."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scoreinv.errors import UserError
from scoreinv.operators import stored_matrix
from scoreinv.operators.geometry import SparseRows
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.operators.projection_matrix import projection_matrix
from scoreinv.operators.stored_matrix import FOLDER, Wanted
from scoreinv.operators.stored_matrix import stored_matrix as stored

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
BEAM = ParallelBeam(16, (0.1, 0.5, 0.9, 1.4, 2.0), 23)

CHILD = """
import sys, time
from dataclasses import dataclass
import torch
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.operators.stored_matrix import stored_matrix

@dataclass(frozen=True)
class Slow(ParallelBeam):
    def rows(self, view):
        with open(sys.argv[1], "a") as log:
            log.write(f"{view}\\n")
        time.sleep(0.2)
        return super().rows(view)

matrix = stored_matrix(Slow(16, (0.1, 0.5, 0.9, 1.4, 2.0), 23), torch.float32, is_transposed=False)
print(sum(float(block.values().double().sum()) for block in matrix.blocks(torch.device("cpu"))))
"""


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    stored.cache_clear()
    yield
    stored.cache_clear()


def child(folder: Path) -> "subprocess.Popen[str]":
    """Makes a matrix of five views, each of which takes 0.2 s and puts a line into the log."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder / "log")]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def dense(geometry: ParallelBeam, *, is_transposed: bool = False) -> torch.Tensor:
    blocks = stored(geometry, torch.float32, is_transposed=is_transposed).blocks(CPU)
    return torch.cat([block.to_dense() for block in blocks], dim=int(is_transposed))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".csr", ".half"))


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("block_bytes", [128e6, 1.0], ids=["one_block", "a_block_a_view"])
def test_a_file_holds_the_matrix(is_transposed: bool, block_bytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_matrix, "BLOCK_BYTES", block_bytes)
    expected = projection_matrix(BEAM, torch.float32, CPU, transposed=is_transposed).to_dense()
    assert torch.equal(dense(BEAM, is_transposed=is_transposed), expected)


def test_two_processes_that_start_together_make_it_once(tmp_path: Path) -> None:
    both = [child(tmp_path), child(tmp_path)]
    sums = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sums[0] == sums[1] != ""
    # Each looks at two views for the name; one of them makes all five.
    assert len((tmp_path / "log").read_text().split()) == 2 * 2 + 5
    assert len(names(tmp_path)) == 1


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    process = child(tmp_path)
    until(lambda: any(name.endswith(".half") for name in names(tmp_path)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert names(tmp_path)[0].endswith(".half")
    torch.testing.assert_close(dense(BEAM), projection_matrix(BEAM, torch.float32, CPU).to_dense())
    assert [Path(name).suffix for name in names(tmp_path)] == [".csr"]


def until(holds, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_file_that_lost_its_end_is_made_anew(kept: int, tmp_path: Path) -> None:
    expected = dense(BEAM)
    (name,) = names(tmp_path)
    os.truncate(tmp_path / name, kept)
    stored.cache_clear()
    assert torch.equal(dense(BEAM), expected)


def test_a_failed_making_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(stored_matrix, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        dense(BEAM)
    assert names(tmp_path) == []


def test_what_was_not_used_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beams = [ParallelBeam(16, (angle, 1.0), 23) for angle in (0.1, 0.2, 0.3)]
    oldest = stored(beams[0], torch.float32, is_transposed=False)
    expected = [block.to_dense() for block in oldest.blocks(CPU)]
    (first,) = names(tmp_path)
    stored(beams[1], torch.float32, is_transposed=False)
    os.utime(tmp_path / first, (0, 0))
    monkeypatch.setattr(stored_matrix, "KEPT_BYTES", 2.5 * (tmp_path / first).stat().st_size)
    stored(beams[2], torch.float32, is_transposed=False)
    assert first not in names(tmp_path)
    assert len(names(tmp_path)) == 2
    # Who has it open goes on.
    assert torch.equal(torch.cat([block.to_dense() for block in oldest.blocks(CPU)]), torch.cat(expected))


def test_a_full_disk_is_named_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(stored_matrix.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=f"set {FOLDER}"):
        dense(BEAM)
    assert names(tmp_path) == []


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fills it decides what everybody's images look like."""
    monkeypatch.delenv(FOLDER)
    monkeypatch.setattr(stored_matrix.tempfile, "gettempdir", lambda: str(tmp_path))
    dense(BEAM)
    mine = tmp_path / f"scoreinv-{os.getuid()}-projectors"
    assert len(names(mine)) == 1
    assert mine.stat().st_mode & 0o077 == 0
    stored.cache_clear()
    owner = os.getuid()
    mine.rename(tmp_path / f"scoreinv-{owner + 1}-projectors")
    monkeypatch.setattr(stored_matrix.os, "getuid", lambda: owner + 1)
    with pytest.raises(UserError, match="another user"):
        dense(BEAM)


def test_code_that_computes_other_rows_finds_no_older_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Wanted(BEAM, torch.float32, is_transposed=False).name()
    assert Wanted(BEAM, torch.float64, is_transposed=False).name() != before
    assert Wanted(BEAM, torch.float32, is_transposed=True).name() != before
    rows = ParallelBeam.rows

    def other(self: ParallelBeam, view: int) -> SparseRows:
        return rows(self, view)._replace(data=1.001 * rows(self, view).data)

    monkeypatch.setattr(ParallelBeam, "rows", other)
    assert Wanted(BEAM, torch.float32, is_transposed=False).name() != before
