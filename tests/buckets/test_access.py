"""Buckets that cannot be had, and objects that cannot."""

from pathlib import Path

import pytest
import s3fs

from storage.errors import StoreError
from storage.listing import Rejected
from storage.remote import remote
from storage.sources import DicomSource
from storage.sources.files import stamps_below
from storage.uri import (
    create_bytes,
    exists,
    join,
    list_names,
    read_bytes,
    read_range,
    size_of,
    sizes_below,
    write_bytes,
)
from tests.buckets.proxy import Fault, failing, one_in_ten
from tests.buckets.s3 import forgotten, make_bucket
from tests.buckets.servers import Server, free_port
from tests.buckets.sources import copy_to, write_source


def scanned(path: str) -> list[str]:
    """The reasons of a source's files that were rejected."""
    source = DicomSource(path=path, takes_any_values=True, identities="kept")
    return [f"{one.file}: {one.reason}" for one in source.scan() if isinstance(one, Rejected)]


def try_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails fails at once, in place of after half a minute."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)


def test_the_operations_on_files(bucket: str) -> None:
    write_bytes(join(bucket, "a/b"), b"0123456789")
    write_bytes(join(bucket, "a/empty"), b"")
    assert read_bytes(join(bucket, "a/b")) == b"0123456789"
    assert read_bytes(join(bucket, "a/empty")) == b""
    ranges = [(0, 3), (8, 20), (10, 20), (30, 40)]
    assert [read_range(join(bucket, "a/b"), *one) for one in ranges] == [b"012", b"89", b"", b""]
    assert read_range(join(bucket, "a/empty"), 0, 5) == b""
    assert sizes_below(bucket) == {"a/b": 10, "a/empty": 0}
    assert (list_names(join(bucket, "a")), list_names(join(bucket, "c"))) == (["b", "empty"], [])
    assert (size_of(join(bucket, "a/b")), size_of(join(bucket, "a/c")), exists(join(bucket, "a"))) == (10, None, True)
    assert [create_bytes(join(bucket, "new"), b"1"), create_bytes(join(bucket, "new"), b"2")] == [True, False]


def test_stamps_change_with_the_content(bucket: str) -> None:
    write_bytes(join(bucket, "source/a"), b"123")
    first = stamps_below(join(bucket, "source"))["a"]
    write_bytes(join(bucket, "source/a"), b"124")
    second = stamps_below(join(bucket, "source"))["a"]
    assert first.size == second.size == 3
    assert first.etag != second.etag
    assert 0 < first.mtime_ns <= second.mtime_ns


def test_without_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with forgotten():
        for use in (read_bytes, stamps_below, scanned):
            with pytest.raises(StoreError, match=rf"{bucket}.*no access .*set AWS_ACCESS_KEY_ID"):
                use(join(bucket, "a"))


@pytest.mark.usefixtures("bucket")
def test_of_a_bucket_that_is_not_there() -> None:
    for use in (read_bytes, sizes_below, list_names, scanned, lambda uri: write_bytes(uri, b"1")):
        with pytest.raises(StoreError, match="there is no s3://nothere .*make it, or correct its name"):
            use("s3://nothere/a")


@pytest.mark.usefixtures("bucket")
def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    try_once(monkeypatch)
    with forgotten(), pytest.raises(ConnectionError, match=r"s3://away does not answer .*network"):
        scanned("s3://away/a")


def test_one_object_that_cannot_be_fetched_is_rejected(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_to(write_source(tmp_path, n_series=1, n_slices=3), join(bucket, "source"))
    try_once(monkeypatch)

    def one(number: int, method: str, path: str) -> Fault:
        return "503" if "0001.dcm" in path else None

    with failing(s3.endpoint, one) as proxy, forgotten():
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        bad, cut = scanned(source)
    assert bad.startswith("p0/0001.dcm: it cannot be fetched")
    assert cut.startswith("p0/cut.dcm: ")


def test_a_bucket_that_goes_away_stops_the_scan(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_to(write_source(tmp_path, n_series=1, n_slices=3), join(bucket, "source"))
    try_once(monkeypatch)
    with failing(s3.endpoint, lambda number, *_: "503" if number > 2 else None) as proxy, forgotten():
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        with pytest.raises(ConnectionError, match="does not answer"):
            scanned(source)


def test_requests_that_fail_now_and_then_are_tried_again(
    s3: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = write_source(tmp_path, n_series=1, n_slices=9)
    with failing(s3.endpoint, one_in_ten) as proxy, forgotten():
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        source = copy_to(here, join(bucket, "source"))
        assert len(scanned(source)) == 1
        made = make_bucket()
        with remote(made) as (filesystem, path):
            assert filesystem.find(path) == []
    assert {one.split()[0] for one in proxy.faults} == {"503", "reset"}
