"""scoreinv serve: reports over real HTTP, and nothing else."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.serve import is_loopback
from tests.flows.conftest import Command, heed_signals
from tests.storage.test_reports import DIGEST, made

PAGE = f"/reports/{DIGEST}/report.html"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address and the process of the command on a workspace with one report."""
    made(str(tmp_path), DIGEST, "Chest <b>&")
    (tmp_path / "secret.html").write_text("secret")
    command = [sys.executable, "-m", "flows.cli", "serve", "--workspace", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_signals
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found, (said, process.communicate(timeout=10))
        yield found[0], process
    finally:
        process.kill()
        process.communicate()


def test_a_browser_reads_reports_and_nothing_else(served: tuple[str, "subprocess.Popen[str]"]) -> None:
    address, process = served
    with httpx.Client(base_url=address, timeout=30) as client:
        index = client.get("/")
        assert index.status_code == 200
        assert "Chest &lt;b&gt;&amp;</a></th><td>7</td><td>2026-01-02 03:04 UTC</td>" in index.text
        assert f'href="{PAGE}"' in index.text
        page = client.get(PAGE)
        assert (page.text, page.headers["content-type"]) == ("<h1>Chest <b>&</h1>", "text/html; charset=utf-8")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert client.get(f"/reports/{DIGEST}/picture-1-1.png").headers["content-type"] == "image/png"
        table = client.get(f"/reports/{DIGEST}/scores-1.csv")
        assert (table.text, table.headers["content-type"]) == ("a,b", "text/csv; charset=utf-8")
        for path in (f"/reports/{DIGEST}/report.json", "/secret.html", f"/reports/{DIGEST}/..%2F..%2Fsecret.html"):
            assert client.get(path).status_code == 404, path
        for method in ("POST", "PUT", "DELETE"):
            assert client.request(method, PAGE).status_code == 405
        assert client.get(PAGE, headers={"Host": "elsewhere.example"}).status_code == 400
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "stopped\n")


def test_a_port_that_is_taken_is_one_message(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, said = command("serve", "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "choose others with --host and --port" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_is_known(host: str) -> None:
    assert is_loopback(host)
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "ward.example", "")))
