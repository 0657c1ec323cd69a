"""Real servers of buckets (``make test-cloud``): faults in one request of ten, and a server that is killed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import fsspec
import pytest
import s3fs

from flows.pipeline import pipeline_flow
from storage.errors import StoreError
from storage.uri import create_bytes, join, read_bytes, read_range, sizes_below, write_bytes
from tasks.recipes import PipelineRecipe
from tasks.running.cluster import Inline
from tasks.running.mistakes import TooManyFailures
from tasks.running.shards import Execution
from tests.buckets.clouds import Cloud, azurite, ceph, gcs
from tests.buckets.proxy import Fault, failing, one_in_ten
from tests.buckets.sources import copy_to, recipe, write_source
from tests.buckets.test_pipeline import contents

pytestmark = [pytest.mark.cloud, pytest.mark.usefixtures("prefect_server")]

Lead = Callable[[str], None]


@pytest.fixture(params=[ceph, azurite, gcs], scope="session", ids=lambda server: server.__name__)
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    server: Callable[[Path], AbstractContextManager[Cloud]] = request.param
    with server(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def lead(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lead]:
    """Makes the scheme lead to an address, and keeps no connection to another."""
    monkeypatch.setenv("SCOREINV_SALT", "0123456789abcdef")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    monkeypatch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})

    def to(endpoint: str) -> None:
        for name, value in cloud.environment(endpoint).items():
            monkeypatch.setenv(name, value)
        # Imported only now: gcsfs reads the environment when it is.
        fsspec.get_filesystem_class(cloud.scheme).clear_instance_cache()

    to(cloud.endpoint)
    yield to
    to(cloud.endpoint)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source", n_series=2, n_slices=8)


def run(source: str, workspace: str) -> dict[str, str]:
    """What a pipeline makes there."""
    wanted = PipelineRecipe.model_validate(recipe(source, shard_size=4))
    pipeline_flow(wanted, Execution(workspace=workspace, cluster=Inline(), retries=0))
    return contents(workspace)


def test_bytes_come_back(cloud: Cloud, lead: Lead) -> None:
    bucket = cloud.make_bucket()
    write_bytes(join(bucket, "a/b"), b"0123456789")
    ranges = [(0, 3), (8, 20), (10, 20)]
    assert [read_range(join(bucket, "a/b"), *one) for one in ranges] == [b"012", b"89", b""]
    assert [create_bytes(join(bucket, "c"), b"1"), create_bytes(join(bucket, "c"), b"2")] == [True, False]
    assert read_bytes(join(bucket, "c")) == b"1"
    assert sizes_below(bucket) == {"a/b": 10, "c": 1}


def test_keys_that_are_wrong_are_an_error(cloud: Cloud, lead: Lead, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = cloud.make_bucket()
    if cloud.scheme == "gs":
        pytest.skip("the emulator lets everybody in")
    secret = "AZURE_STORAGE_CONNECTION_STRING" if cloud.scheme == "az" else "AWS_SECRET_ACCESS_KEY"
    wrong = cloud.environment(cloud.endpoint)[secret].replace("AccountKey=E", "AccountKey=A").replace("test", "toast")
    lead(cloud.endpoint)
    monkeypatch.setenv(secret, wrong)
    with pytest.raises(StoreError, match="no access"):
        read_bytes(join(bucket, "a"))


def test_with_one_request_of_ten_failing(cloud: Cloud, lead: Lead, source: Path, tmp_path: Path) -> None:
    wanted, bucket = run(str(source), str(tmp_path / "results")), cloud.make_bucket()
    with failing(cloud.endpoint, one_in_ten) as proxy:
        lead(proxy.endpoint)
        made = run(copy_to(source, join(bucket, "source")), join(bucket, "results"))
        lead(cloud.endpoint)
    assert made == wanted
    assert len(proxy.faults) >= 10
    assert {fault.split()[0] for fault in proxy.faults} == {"503", "reset"}


def test_a_server_that_is_killed(
    cloud: Cloud, lead: Lead, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, bucket = run(str(source), str(tmp_path / "results")), cloud.make_bucket()
    there = copy_to(source, join(bucket, "source"))

    def kill(number: int, method: str, path: str) -> Fault:
        if number == 120:
            cloud.kill()
        return None

    with failing(cloud.endpoint, kill) as proxy:
        lead(proxy.endpoint)
        # Each client tries for a minute or so, one of them in two loops around each other.
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        with pytest.raises((ConnectionError, TooManyFailures), match="does not answer as it should"):
            run(there, join(bucket, "results"))
    cloud.start()
    lead(cloud.endpoint)
    done = len(sizes_below(join(bucket, "results")))
    assert done > 0
    assert run(there, join(bucket, "results")) == wanted
