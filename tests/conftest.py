"""What all tests share: one Prefect server, started only if a test runs a flow."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server of its own, with a database that goes away; starting it takes half a minute on a small machine."""
    os.environ.setdefault("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Servers that pip does not bring are only started if asked for, as by ``-m cloud``."""
    if config.option.markexpr:
        return
    for item in items:
        for name in ("cloud", "operations"):
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=f"make test-{name} runs it"))
