"""Prefect behind the command: its server where there is no other, and what of its log a person wants to see."""

import atexit
import logging
import os
import re
import sys
from contextlib import AbstractContextManager

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from flows.own_server import DATABASE, EPHEMERAL, launch, require_ready, tell_start
from tasks.running.mistakes import explain
from tasks.running.processes import Child

ROUTINE = (
    "Beginning ",
    "Finished in state",
    "Encountered exception during execution",
    "Crash detected",
    "Starting temporary server",
    "Stopping temporary server",
)
"""Said of every run; what the stages say, and the command at its end, is enough."""

ANSWER_SECONDS = 10.0
"""A server that is there answers sooner."""


def start_server() -> None:
    """Start a Prefect server for this process, or see whether the one answers that PREFECT_API_URL names.

    Raises:
        ConnectionError: if it does not answer, does not start (with its last words), or may not be started.
    """
    if PREFECT_API_URL.value():
        _require_answer(PREFECT_API_URL.value())
        return
    if not PREFECT_SERVER_EPHEMERAL_ENABLED.value():
        raise ConnectionError("Prefect is told to start no server: set PREFECT_API_URL to the address of one")
    from prefect.server.api.server import SubprocessASGIServer  # the whole server, which takes seconds

    server = SubprocessASGIServer()
    if not server.running:
        tell_start()
        drop_strange_proxies()
        child = _launch()
        # Prefect takes it for the one it would have started, and ends it with this process.
        server.port, server.server_process, server.running = int(child.answer or 0), child.process, True
        atexit.register(server.stop)


def without_heartbeats() -> AbstractContextManager[object]:
    """A block whose flows tell the server of one command, which ends with them, not that they live: each ends sooner.

    Prefect waits for the end of a pause of a second.
    """
    return temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})


def _require_answer(url: str) -> None:
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 1}),
            get_client(httpx_settings={"timeout": ANSWER_SECONDS}, sync_client=True) as client,
        ):
            client.raise_for_api_version_mismatch()
    except Exception as error:  # of many classes: of sockets, of httpx, of JSON, of Prefect
        cause = error.__cause__ or error
        shown = re.sub("//[^/@]*@", "//", url)  # without a password
        raise ConnectionError(
            f"no Prefect server answers at {shown} ({cause or type(cause).__name__}): start it, "
            "correct PREFECT_API_URL, or unset it to have a server for this command alone"
        ) from error


def drop_strange_proxies() -> None:
    """Take out of the environment what Prefect's client could not even be made with."""
    # On this machine Prefect's client goes through none.
    for name in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        proxy = os.environ[name]
        try:
            httpx.Client(proxy=proxy if "://" in proxy else f"http://{proxy}" if proxy else None).close()
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            print(f"{name} is left aside: {error}", file=sys.stderr)
            del os.environ[name]


def _launch() -> Child:
    home, seconds = PREFECT_HOME.value(), PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    if PREFECT_API_DATABASE_CONNECTION_URL.value() == f"sqlite+aiosqlite:///{home}/prefect.db":
        # In a URL, a folder's '?' or '#' would mean something else.
        settings |= DATABASE
    child = launch(str(home), EPHEMERAL | settings)
    require_ready(child, str(home), seconds)
    return child


def quieten() -> None:
    """Drop Prefect's routine lines and tracebacks; the command prints the reason of a failure at its end.

    The run's own log, in the UI, keeps the traceback of a fault of the program.
    """
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_shorten)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_leave_to_the_command)


def _shorten(record: logging.LogRecord) -> bool:
    return _is_of_a_fault(record) or _without_traceback(record)


def _leave_to_the_command(record: logging.LogRecord) -> bool:
    return _without_traceback(record) if record.name.startswith("prefect") else True


def _is_of_a_fault(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, Exception) and explain(error) is None


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info, record.exc_text, record.stack_info = None, None, None
    return not str(record.msg).startswith(ROUTINE)
