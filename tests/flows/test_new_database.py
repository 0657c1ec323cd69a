"""New databases of Prefect begin as a copy of one without runs, never as one with runs, and no other is touched."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flows.new_database import keep_copy, put_copy


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scoreinv"


def database(path: Path, *runs: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE flow_run (name TEXT)")
        connection.executemany("INSERT INTO flow_run VALUES (?)", [(run,) for run in runs])
        connection.commit()
    return path


def test_the_first_is_kept_and_the_next_begin_as_its_copies(tmp_path: Path, cache: Path) -> None:
    new = tmp_path / "new.db"
    assert put_copy(new)
    assert not new.exists()
    keep_copy(database(tmp_path / "first.db"))
    assert put_copy(new)
    with closing(sqlite3.connect(new)) as connection:
        assert connection.execute("SELECT * FROM flow_run").fetchall() == []
    assert len(list(cache.iterdir())) == 1


def test_one_with_runs_is_not_kept_and_one_that_is_there_stays(tmp_path: Path, cache: Path) -> None:
    used = database(tmp_path / "used.db", "a run")
    keep_copy(used)
    assert list(cache.iterdir()) == []
    keep_copy(database(tmp_path / "first.db"))
    before = used.read_bytes()
    assert not put_copy(used)
    assert used.read_bytes() == before


def test_without_a_place_for_the_copy_nothing_happens(tmp_path: Path, cache: Path) -> None:
    cache.parent.write_text("a file")
    keep_copy(database(tmp_path / "first.db"))
    assert put_copy(tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
