"""Small files under any URI."""

import os
import threading
from pathlib import Path

import pytest

from storage.errors import StoreError, StoreNotFound
from storage.uri import delete, exists, is_local, join, list_names, read_bytes, read_json, write_bytes, write_json


@pytest.fixture(params=["path", "file", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"path": str(tmp_path), "file": f"file://{tmp_path}", "memory": f"memory://{tmp_path.name}"}[request.param]


def test_what_is_written_is_read_back_and_listed(root: str) -> None:
    write_bytes(join(root, "a/b.bin"), b"\x00\xff")
    write_json(join(root, "a", "c.json"), {"x": [1, None, "é"]})
    assert read_bytes(join(root, "a/b.bin")) == b"\x00\xff"
    assert read_json(join(root, "a/c.json")) == {"x": [1, None, "é"]}
    assert list_names(join(root, "a")) == ["b.bin", "c.json"]


def test_missing_files_are_store_not_found(root: str) -> None:
    assert not exists(join(root, "nothing"))
    assert list_names(join(root, "nothing")) == []
    with pytest.raises(StoreNotFound, match=r"nothing\.json"):
        read_json(join(root, "nothing.json"))


def test_delete_is_idempotent(root: str) -> None:
    write_bytes(join(root, "a"), b"1")
    delete(join(root, "a"))
    delete(join(root, "a"))
    assert not exists(join(root, "a"))


def test_damaged_json_names_the_file(root: str) -> None:
    write_bytes(join(root, "a.json"), b'{"x": ')
    with pytest.raises(StoreError, match=r"a\.json is damaged"):
        read_json(join(root, "a.json"))


@pytest.mark.parametrize("part", ["../x", "a/../b", "/etc/passwd", "a//b", "", ".", "a\\b", "a\nb", "a\x7f", "a/"])
def test_join_refuses_parts_that_could_leave_the_root(part: str) -> None:
    with pytest.raises(ValueError, match="name"):
        join("root", part)


@pytest.mark.parametrize(
    ("root", "joined"),
    [("/data/", "/data/a/b"), ("/", "/a/b"), ("memory://", "memory://a/b"), ("s3://bucket/x", "s3://bucket/x/a/b")],
)
def test_join_puts_one_slash_between_parts(root: str, joined: str) -> None:
    assert join(root, "a", "b") == joined


def test_only_paths_and_file_uris_are_local() -> None:
    assert is_local("data/x")
    assert is_local("file:///data/x")
    assert not is_local("s3://bucket/x")


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    name, contents = str(tmp_path / "x"), [bytes([i]) * 200_000 for i in range(2)]
    write_bytes(name, contents[0])
    writers = [threading.Thread(target=lambda c=c: [write_bytes(name, c) for _ in range(20)]) for c in contents]
    for writer in writers:
        writer.start()
    seen = [read_bytes(name) for _ in range(200)]
    for writer in writers:
        writer.join()
    assert all(content in contents for content in seen)
    assert os.listdir(tmp_path) == ["x"]
