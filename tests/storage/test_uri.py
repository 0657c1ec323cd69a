"""Small files under any URI."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fsspec.registry import _registry

from storage.errors import StoreError, StoreHeld, StoreNotFound
from storage.sources.files import stamps_below
from storage.uri import (
    create_bytes,
    delete,
    exists,
    is_local,
    join,
    list_names,
    locked,
    read_bytes,
    read_json,
    read_sealed,
    sealed,
    size_of,
    sizes_below,
    write_bytes,
    write_json,
)


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


def test_a_file_is_created_by_one_of_many(root: str) -> None:
    name, won = join(root, "a/x"), list[int]()
    threads = [
        threading.Thread(target=lambda i=i: won.append(i) if create_bytes(name, b"%d" % i) else None) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_bytes(name) == b"%d" % won[0]
    assert len(won) == 1
    assert list_names(join(root, "a")) == ["x"]


def test_a_file_is_created_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr("storage.uri.os.link", refuse)
    name = str(tmp_path / "x")
    assert [create_bytes(name, b"1"), create_bytes(name, b"2")] == [True, False]
    assert read_bytes(name) == b"1"


def test_a_lock_is_held_by_one_at_a_time_and_a_dead_holder_frees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "s")
    script = f"from storage.uri import locked\nwith locked({uri!r}):\n print('in', flush=True)\n input()"
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    with monkeypatch.context() as patch:
        patch.setattr("storage.uri.LOCK_SECONDS", 0.2)
        with pytest.raises(StoreHeld, match="another process has been writing into"), locked(uri):
            pass
    holder.kill()
    holder.communicate()
    with locked(uri):
        assert list_names(uri) == [".lock"]


def test_a_file_system_without_locks_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("storage.uri.FileLock.acquire", refuse)
    with locked(str(tmp_path)):
        write_bytes(str(tmp_path / "x"), b"1")
    assert read_bytes(str(tmp_path / "x")) == b"1"


def test_a_seal_shows_every_change(root: str) -> None:
    value = {"a": [1, 2.5], "b": {"c": "é"}}
    write_json(join(root, "x"), sealed(value))
    assert read_sealed(join(root, "x")) == value
    content = read_bytes(join(root, "x"))
    for changed in (content.replace(b"2.5", b"2.4"), content.replace(b"seal", b"sfal"), content[:-3], b"[1]\n", b""):
        write_bytes(join(root, "x"), changed)
        with pytest.raises(StoreError, match="x is damaged"):
            read_sealed(join(root, "x"))


def test_sizes_are_those_of_all_files_below(root: str) -> None:
    write_bytes(join(root, "a/b/c"), b"123")
    write_bytes(join(root, "a/d"), b"")
    assert sizes_below(join(root, "a")) == {"b/c": 3, "d": 0}
    assert sizes_below(join(root, "nothing")) == {}
    assert (size_of(join(root, "a/b/c")), size_of(join(root, "a/d")), size_of(join(root, "x"))) == (3, 0, None)


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("s3://b/x", "s3fs", "s3"), ("gs://b/x", "gcsfs", "gcs"), ("abfs://c/x", "adlfs", "azure")],
)
def test_a_missing_package_is_named_with_what_brings_it(
    uri: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, package, None)
    for scheme in (uri.partition("://")[0], "az"):
        monkeypatch.delitem(_registry, scheme, raising=False)
    for use in (exists, read_bytes, stamps_below):
        with pytest.raises(StoreError, match=rf"need the package {package}: pip install 'scoreinv\[{extra}\]'"):
            use(uri)


def test_a_place_of_no_kind_is_a_message() -> None:
    with pytest.raises(StoreError, match="foo://x: there are no places of this kind"):
        exists("foo://x")


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
