"""Files of a source, here and in another place."""

import os
import time
from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.sources.files import Stamp, files_below, stamps_below
from storage.uri import join, write_bytes


@pytest.fixture(params=["path", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path.name}"}[request.param]


def test_files_are_named_from_the_source_down_without_hidden_ones(root: str) -> None:
    for name in ("b.dcm", "a/c", "a/.hidden", ".git/d"):
        write_bytes(join(root, name), b"12")
    assert files_below(root) == files_below(f"{root}/") == ["a/c", "b.dcm"]
    assert files_below(join(root, "a/c")) == ["c"]


def test_a_source_that_is_not_there_is_an_error(root: str) -> None:
    with pytest.raises(SourceError, match="nothing does not exist"):
        stamps_below(join(root, "nothing"))


def test_a_stamp_says_how_large_a_file_is_and_when_it_was_written(root: str) -> None:
    before = time.time_ns()
    write_bytes(join(root, "a/b"), b"123")
    (stamp,) = stamps_below(join(root, "a")).values()
    assert stamp.size == 3
    # File systems count in steps of some milliseconds.
    assert abs(stamp.mtime_ns - before) < 60e9


def test_a_stamp_of_a_file_here_shows_a_copy_that_kept_its_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    os.utime(tmp_path / "a", ns=(10**18, 10**18))
    first = stamps_below(str(tmp_path))["a"]
    time.sleep(0.02)
    (tmp_path / "a").write_bytes(b"124")
    os.utime(tmp_path / "a", ns=(10**18, 10**18))
    second = stamps_below(str(tmp_path))["a"]
    assert first[:2] == second[:2] == (3, 10**18)
    assert first.ctime_ns < second.ctime_ns


def test_a_link_that_leads_nowhere_is_listed_without_a_stamp(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nothing")
    assert stamps_below(str(tmp_path)) == {"a": Stamp()}
