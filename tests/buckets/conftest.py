"""What the tests of buckets share: one S3 server."""

from collections.abc import Iterator

import pytest

from tests.buckets.s3 import forgotten, make_bucket, s3_environment
from tests.buckets.servers import Server, moto


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """moto's server; started once, in two seconds."""
    with moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def bucket(s3: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a new bucket, which s3:// leads to while the test runs."""
    for name, value in s3_environment(s3.endpoint).items():
        monkeypatch.setenv(name, value)
    with forgotten():
        yield make_bucket()
