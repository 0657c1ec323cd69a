"""Tables of scores."""

import csv
import io
import math
from pathlib import Path

import pytest
from pyarrow import parquet

from storage.errors import StoreError, StoreNotFound
from storage.scores import columns_of, parquet_bytes, read_scores, write_scores
from storage.uri import join, write_bytes

ROWS = [
    {"ssim": 0.1 + 0.2, "psnr": math.inf, "slice": 0, "subject_id": 'a, "b"', "method": "fbp", "failed": False},
    {"psnr": -1.5e-30, "slice": 1, "subject_id": "é\nx", "method": "tv", "lpips": math.nan},
]


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_rows_come_back_exactly(tmp_path: Path, scheme: str) -> None:
    uri = scheme + str(tmp_path / "t")
    write_scores(uri, ROWS)
    first, second = read_scores(uri)
    assert first == {**ROWS[0], "lpips": None}
    assert math.isnan(second.pop("lpips"))  # type: ignore[arg-type]
    assert second == {k: v for k, v in ROWS[1].items() if k != "lpips"} | {"ssim": None, "failed": None}


def test_columns_are_identity_first_then_by_name(tmp_path: Path) -> None:
    expected = ["slice", "subject_id", "method", "failed", "lpips", "psnr", "ssim"]
    assert columns_of(ROWS) == columns_of(ROWS[::-1]) == expected
    write_scores(str(tmp_path), ROWS)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf8") as file:
        lines = list(csv.reader(file))
    assert lines[0] == expected
    assert lines[1] == ["0", 'a, "b"', "fbp", "False", "", "inf", repr(0.1 + 0.2)]
    assert lines[2] == ["1", "é\nx", "tv", "", "nan", "-1.5e-30", ""]


def test_parquet_holds_the_same_table_with_numbers_as_numbers() -> None:
    table = parquet.read_table(io.BytesIO(parquet_bytes(ROWS)))
    assert table.column_names == columns_of(ROWS)
    assert table.column("psnr").to_pylist() == [math.inf, -1.5e-30]
    assert table.column("ssim").to_pylist() == [0.1 + 0.2, None]
    assert table.column("subject_id").to_pylist() == ['a, "b"', "é\nx"]
    assert math.isnan(table.column("lpips").to_pylist()[1])
    assert parquet.read_table(io.BytesIO(parquet_bytes([]))).num_rows == 0


def test_no_rows(tmp_path: Path) -> None:
    write_scores(str(tmp_path), [])
    assert read_scores(str(tmp_path)) == []


def test_missing_and_damaged_tables(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match=r"scores\.json"):
        read_scores(str(tmp_path))
    write_bytes(join(str(tmp_path), "scores.json"), b'{"columns": ["a"], "rows": [[1, 2]]}')
    with pytest.raises(StoreError, match="damaged"):
        read_scores(str(tmp_path))
