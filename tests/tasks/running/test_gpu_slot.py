"""Runs that would use the same GPU wait for each other, on a real Prefect server."""

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from uuid import UUID

import pytest
import torch
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from scoreinv.errors import UserError
from tasks.running.cluster import AnyCluster, Inline, LocalWorkers, RemoteWorkers, SlurmWorkers
from tasks.running.gpu_slot import create_limit, gpu_slot, limit_name

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A machine with a GPU, and a limit of this test alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("SCOREINV_GPU_LIMIT", f"gpu-{hash(request.node.name) % 10**9}")


@pytest.fixture
def limit() -> Iterator[str]:
    create_limit()
    yield limit_name()
    with get_client(sync_client=True) as client:
        client.delete_global_concurrency_limit_by_name(limit_name())


def n_held() -> int:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(limit_name()).active_slots


def thread(body: Callable[[], None]) -> threading.Thread:
    """One for another run, which knows this test's server."""
    return threading.Thread(target=copy_context().run, args=(body,))


def test_a_second_run_waits_for_the_first(limit: str) -> None:
    began = threading.Event()
    order: list[str] = []

    def second() -> None:
        began.set()
        with gpu_slot("auto"):
            order.append("second")

    other = thread(second)
    with gpu_slot("cuda", LocalWorkers()):
        assert n_held() == 1
        other.start()
        assert began.wait(10)
        other.join(timeout=2)
        order.append("first")
    other.join(timeout=90)
    assert order == ["first", "second"]
    assert n_held() == 0


def test_a_stage_of_a_run_needs_no_place_of_its_own(limit: str) -> None:
    with gpu_slot("auto", LocalWorkers()), gpu_slot("auto"), gpu_slot("cuda", Inline()):
        assert n_held() == 1
    assert n_held() == 0


def test_a_run_that_fails_gives_its_place_back(limit: str) -> None:
    with pytest.raises(ZeroDivisionError), gpu_slot("auto"):
        raise ZeroDivisionError
    assert n_held() == 0


def test_as_many_as_it_says_run_at_a_time(limit: str) -> None:
    create_limit(2)
    counts: list[int] = []

    def second() -> None:
        with gpu_slot("auto"):
            counts.append(n_held())

    other = thread(second)
    with gpu_slot("auto"):
        other.start()
        other.join(timeout=60)
        assert counts == [2]


@pytest.mark.parametrize(
    ("device", "cluster"),
    [
        ("cpu", LocalWorkers()),
        ("auto", RemoteWorkers(address="tcp://10.0.0.1:8786")),
        ("cuda", SlurmWorkers()),
    ],
)
def test_who_uses_no_gpu_of_this_machine_needs_no_limit(device: str, cluster: AnyCluster) -> None:
    with gpu_slot(device, cluster):  # type: ignore[arg-type]
        pass


def test_a_machine_without_gpu_needs_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with gpu_slot("auto"):
        pass


def test_a_server_without_the_limit_is_a_message() -> None:
    advice = f"has no limit '{limit_name()}'.*prefect gcl create {limit_name()} --limit 1"
    with pytest.raises(UserError, match=advice), gpu_slot("auto"):
        pass


def test_a_command_without_a_server_of_its_own_holds_nothing() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), gpu_slot("auto"):
        pass


def test_a_place_that_the_server_lost_ends_the_run(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart of the server, which keeps leases in its memory."""
    monkeypatch.setattr("prefect.concurrency._leases._RENEWAL_FRACTION", 0.01)
    with pytest.raises(ConnectionError, match="no longer keeps this run's place .*: run the same command again"):
        work_without_the_place()


def work_without_the_place() -> None:
    with gpu_slot("auto"):
        revoke()
        for _ in range(600):
            time.sleep(0.1)


def revoke() -> None:
    (renewing,) = [one.name for one in threading.enumerate() if one.name.startswith("concurrency-lease-renewal-")]
    lease = UUID(renewing.removeprefix("concurrency-lease-renewal-"))
    with get_client(sync_client=True) as client:
        client.release_concurrency_slots_with_lease(lease)
