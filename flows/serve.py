"""The serve command: a workspace's reports over HTTP, to read and nothing else."""

import argparse
import ipaddress
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from storage.errors import StoreNotFound
from storage.reports import PAGE, PORT, list_reports, report_file
from storage.uri import is_local, local_path

if TYPE_CHECKING:  # their import takes a while
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
"""Only this machine can read what is served here."""

HEADERS = {
    # A report is one page with its style and images inside: nothing is to run, nothing is to be asked of elsewhere.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # A report is written anew at the same place.
    "Cache-Control": "no-store",
}

TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "png": "image/png",
    "jpg": "image/jpeg",
    "svg": "image/svg+xml",
    "gif": "image/gif",
    "webp": "image/webp",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "tex": "text/x-tex; charset=utf-8",
}
"""By suffix, for every kind of file that a report may hold."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parser of ``serve``."""
    text = "show a workspace's reports in a browser, read only, until Ctrl-C"
    command = commands.add_parser("serve", help=text, description=text.capitalize() + ".")
    command.add_argument("--workspace", default="workspace", help="folder of all results (default: workspace)")
    command.add_argument(
        "--host",
        default=HOST,
        help=f"address to listen on (default: {HOST}, which only this machine reaches; any other lets whoever reaches "
        "it read the reports)",
    )
    command.add_argument("--port", type=int, default=PORT, help=f"to listen on; 0: a free one (default: {PORT})")
    command.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C; 0 then."""
    serve(options.workspace, options.host, options.port)
    return 0


def serve(workspace: str, host: str = HOST, port: int = PORT) -> None:
    """Serve the reports of a workspace until this process is told to stop.

    Raises:
        OSError: if the address cannot be listened on; says what to do.
        Exception: if the workspace cannot be read.
    """
    import uvicorn

    place = str(local_path(workspace).resolve()) if is_local(workspace) else workspace
    list_reports(place)  # a bucket without a driver, a folder that may not be read: said now and not to a browser
    with _listening(host, port) as listening:
        address = _address(host, listening.getsockname()[1])
        print(f"reports of {place}: {address} (Ctrl-C stops)", flush=True)
        if not is_loopback(host):
            print("whoever reaches this address can read the reports, which show patients' images", file=sys.stderr)
        names = ["*"] if not is_loopback(host) else ["127.0.0.1", "localhost", "[::1]", host]
        config = uvicorn.Config(
            application(place, names),
            log_level="warning",
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=2,  # a browser that still loads does not keep it from ending
        )
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # the way it is stopped
            print("stopped", file=sys.stderr)


def application(workspace: str, names: list[str]) -> "Starlette":
    """The web application; it answers only requests for a host of one of ``names``.

    A page of elsewhere could else point a name of its own at this machine, and read the reports through the
    browser of whoever visits it.
    """
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    routes = [
        Route("/", _index(workspace), methods=["GET"]),
        Route("/reports/{digest}/{name}", _file(workspace), methods=["GET"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=names)])


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _index(workspace: str) -> "Callable[[Request], Response]":
    from starlette.responses import HTMLResponse

    from tasks.rendering.page import Entry, render_index

    def index(_: "Request") -> "Response":
        entries = [
            Entry(f"/reports/{one.digest}/{PAGE}", one.title, one.generated, f"{one.n_slices or ''}")
            for one in list_reports(workspace)
        ]
        return HTMLResponse(render_index(workspace, entries), headers=HEADERS)

    return index


def _file(workspace: str) -> "Callable[[Request], Response]":
    from starlette.responses import PlainTextResponse, Response

    def file(request: "Request") -> "Response":
        name = request.path_params["name"]
        try:
            content = report_file(workspace, request.path_params["digest"], name)
        except StoreNotFound as error:
            return PlainTextResponse(f"{error}\n", status_code=404, headers=HEADERS)
        return Response(content, media_type=TYPES[name.rsplit(".", 1)[-1]], headers=HEADERS)

    return file


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"cannot listen on {host}, port {port} ({error}): choose others with --host and --port"
        ) from error


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
