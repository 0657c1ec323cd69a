"""OpenKBP tables."""

from pathlib import Path

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.openkbp import OpenKBPSource
from storage.sources.source import Select

FLAT = {0: 1024, 5: 2024, 128 * 7 + 5: 1.5, 128 * 128 * 64 + 128 * 3 + 99: 1124}


def write_patient(folder: Path, table: dict[int, float] | None = None, sizes: str = "4.5\n3.5\n2.0\n") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [",data", *(f"{index},{float(value)}" for index, value in (table or FLAT).items())]
    (folder / "ct.csv").write_text("\n".join(lines) + "\n")
    (folder / "voxel_dimensions.csv").write_text(sizes)


def test_flat_indices_are_rows_columns_slices_in_c_order(tmp_path: Path) -> None:
    write_patient(tmp_path / "pt_1")
    source = OpenKBPSource(path=str(tmp_path))
    found = source.listing()
    assert len(found.slices) == 128
    expected = np.zeros(128**3, np.float32)
    expected[list(FLAT)] = list(FLAT.values())
    volume = expected.reshape(128, 128, 128) - 1024
    for record, values in zip(found.slices, source.load(found.slices), strict=True):
        np.testing.assert_array_equal(values, volume[:, :, record.index])
    assert found.slices[5].spacing_mm == (4.5, 3.5)
    assert found.slices[5].position_mm == 10
    assert next(source.load([found.slices[0]]))[0, 0] == 0


def test_patients_are_folders(tmp_path: Path) -> None:
    for name in ("pt_2", "pt_1"):
        write_patient(tmp_path / name)
    assert OpenKBPSource(path=str(tmp_path)).listing().subjects() == ["pt_1", "pt_2"]
    alone = OpenKBPSource(path=str(tmp_path / "pt_2")).listing()
    assert (alone.subjects(), list(alone.volumes)) == (["pt_2"], ["pt_2"])
    select = Select(min_foreground=1e-5)
    assert {record.index for record in OpenKBPSource(path=str(tmp_path), select=select).listing().slices} == {0, 5, 99}


BAD = {
    "index": ({128**3: 1.0}, "1\n1\n1\n", "flat indices"),
    "negative": ({-1: 1.0}, "1\n1\n1\n", "flat indices"),
    "number": ({3: float("nan")}, "1\n1\n1\n", "table"),
    "sizes": (FLAT, "1\n1\n", "three positive voxel sizes"),
    "zero": (FLAT, "1\n0\n1\n", "three positive voxel sizes"),
    "words": (FLAT, "one\n", "unreadable"),
    "fraction": ({2.5: 1.0}, "1\n1\n1\n", "flat indices"),
    "hounsfield": ({3: -1000.0}, "1\n1\n1\n", "HU + 1024"),
    "tiny": (FLAT, "1e-300\n1\n1\n", "three positive voxel sizes"),
    "empty": ({3: 0.0}, "1\n1\n1\n", "empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_patients_are_named_with_the_reason(tmp_path: Path, case: str) -> None:
    table, sizes, reason = BAD[case]
    write_patient(tmp_path / "pt_good")
    write_patient(tmp_path / "pt_bad", table, sizes)
    found = OpenKBPSource(path=str(tmp_path)).listing()
    assert found.subjects() == ["pt_good"]
    (rejected,) = found.rejected
    assert rejected.file == "pt_bad/ct.csv"
    assert reason in rejected.reason


def test_truncated_table_and_missing_sizes(tmp_path: Path) -> None:
    for name in ("pt_0", "pt_1", "pt_2"):
        write_patient(tmp_path / name)
    (tmp_path / "pt_1/voxel_dimensions.csv").unlink()
    (tmp_path / "pt_2/ct.csv").write_text(",data\n0,1024.0\n5")
    found = OpenKBPSource(path=str(tmp_path)).listing()
    assert [item.file for item in found.rejected] == ["pt_1/ct.csv", "pt_2/ct.csv"]


def test_no_patient(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no ct\.csv"):
        OpenKBPSource(path=str(tmp_path)).listing()
