"""The server of a command: several at once on a new database, strange folders, proxies, addresses where nobody is."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from unittest.mock import patch

import httpx
import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows.environment import prepare_prefect
from flows.prefect_session import _launch, drop_strange_proxies, start_server
from tasks.running.processes import Child, stop

PROXIES = dict.fromkeys(("HTTP_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:1")


def without_server(home: Path) -> AbstractContextManager[object]:
    """A block in which Prefect knows no server and no database, and has time to start one."""
    settings = {PREFECT_HOME: home, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 300}
    return temporary_settings(settings, restore_defaults={PREFECT_API_URL, PREFECT_SERVER_DATABASE_CONNECTION_URL})


class Answer(BaseHTTPRequestHandler):
    """Says hello; no Prefect server."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    """Of a web server on this machine."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    with patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            os.environ.pop(name)  # of a server that other tests use
        for name in ("no_proxy", "NO_PROXY", "SCOREINV_TRACEBACK"):
            os.environ.pop(name, None)
        yield


def test_three_first_servers_at_once_on_a_folder_of_a_strange_name(tmp_path: Path) -> None:
    home = tmp_path / "a #1? 100%41"
    home.mkdir()
    children: list[Child] = []
    with without_server(home):
        threads = [Thread(target=copy_context().run, args=(lambda: children.append(_launch()),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    try:
        assert len(children) == 3
        for child in children:
            assert httpx.get(f"http://127.0.0.1:{child.answer}/api/health").json() is True
    finally:
        stop([child.process for child in children])
    assert (home / "prefect.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_a_server_that_cannot_start_says_why_at_once(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").mkdir()
    with (
        without_server(tmp_path),
        pytest.raises(ConnectionError, match=f"database in {tmp_path}, did not start: .*unable to open database file"),
    ):
        _launch()


def test_loopback_goes_through_no_proxy_and_the_users_hosts_are_kept(tmp_path: Path, address: str) -> None:
    with patch.dict(os.environ, PROXIES | {"NO_PROXY": "example.org, localhost"}):
        with pytest.raises(httpx.ConnectError):
            httpx.get(address)
        prepare_prefect(str(tmp_path))
        assert httpx.get(address).text == "hello"
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.org,localhost,127.0.0.1,::1"
        with pytest.raises(httpx.ConnectError):  # others still do
            httpx.get("http://prefect.invalid")


def test_a_proxy_that_prefect_cannot_use_is_left_aside(capsys: pytest.CaptureFixture[str]) -> None:
    proxies = {"ALL_PROXY": "gopher://127.0.0.1:1", "HTTP_PROXY": "127.0.0.1:1", "https_proxy": ""}
    with patch.dict(os.environ, proxies):
        with pytest.raises(ValueError, match="gopher"):
            httpx.Client()
        drop_strange_proxies()
        httpx.Client().close()
        assert "ALL_PROXY" not in os.environ
        assert os.environ["HTTP_PROXY"] == "127.0.0.1:1"
    assert capsys.readouterr().err.startswith("ALL_PROXY is left aside: ")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/api", "http://user:secret@127.0.0.1:1/api", "127.0.0.1:4200", "nonsense", "a web page"]
)
def test_where_no_prefect_server_answers_the_address_is_named(url: str, address: str) -> None:
    where = address if url == "a web page" else url
    with (
        temporary_settings({PREFECT_API_URL: where}),
        pytest.raises(ConnectionError, match="no Prefect server answers at .*unset it to have a server") as caught,
    ):
        start_server()
    assert where.replace("user:secret@", "") in str(caught.value)


def test_a_user_who_wants_no_server_gets_none() -> None:
    settings = {PREFECT_SERVER_EPHEMERAL_ENABLED: False}
    with (
        temporary_settings(settings, restore_defaults={PREFECT_API_URL}),
        pytest.raises(ConnectionError, match="told to start no server: set PREFECT_API_URL"),
    ):
        start_server()
