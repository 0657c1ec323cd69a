"""A proxy between a client and a server of buckets, which fails on request."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Fault = Literal["503", "reset"] | None
"""An answer that says that the server is busy, or a connection that ends without an answer."""

Policy = Callable[[int, str, str], Fault]
"""What happens to a request, by its number, method and path."""


def one_in_ten(number: int, method: str, path: str) -> Fault:
    """One request in ten fails, in turn in both ways."""
    return None if number % 10 != 7 else "503" if number % 20 == 7 else "reset"


class Proxy(NamedTuple):
    """A proxy that runs."""

    endpoint: str
    faults: list[str]
    """Each fault so far, as "503 GET /bucket/name"."""


class _Server(ThreadingHTTPServer):
    """Where requests arrive, what becomes of them, and where those that are spared go on to."""

    daemon_threads = True

    def __init__(self, endpoint: str, policy: Policy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.policy = urlsplit(endpoint), policy
        self.faults: list[str] = []
        self._numbers, self._lock = count(), threading.Lock()

    def fault(self, method: str, path: str) -> Fault:
        """What happens to the next request."""
        with self._lock:
            fault = self.policy(next(self._numbers), method, path)
            self.faults += [f"{fault} {method} {path}"] if fault else []
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_request(self) -> None:
        body = self._body()
        fault = self.server.fault(self.command, self.path)
        if fault == "reset":
            self._hang_up()
        elif fault == "503":
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._forward(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _forward(self, body: bytes) -> None:
        target = self.server.target
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            answer = self._asked(connection, body)
            content = answer.read()
        except OSError:
            # The server is gone: so is this connection.
            self._hang_up()
            return
        finally:
            connection.close()
        self._answer(answer, content)

    def _asked(self, connection: http.client.HTTPConnection, body: bytes) -> http.client.HTTPResponse:
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        # As they are: a signature may cover them.
        for name, value in self.headers.items():
            if name.lower() not in ("transfer-encoding", "content-length", "expect", "connection"):
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        return connection.getresponse()

    def _answer(self, answer: http.client.HTTPResponse, content: bytes) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def failing(endpoint: str, policy: Policy) -> Iterator[Proxy]:
    """A block in which a proxy hands requests on to this server, those that the policy spares."""
    server = _Server(endpoint, policy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Proxy(f"http://127.0.0.1:{server.server_address[1]}", server.faults)
    finally:
        server.shutdown()
        server.server_close()
