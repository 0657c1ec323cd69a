"""Prefect behind the command: its server where there is no other, and what of its log a person wants to see."""

import atexit
import logging
import sys

from prefect.client.orchestration import get_client
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
)

from tasks.mistakes import explain
from tasks.processes import Child, stop

ROUTINE = (
    "Beginning ",
    "Finished in state",
    "Encountered exception during execution",
    "Crash detected",
    "Starting temporary server",
    "Stopping temporary server",
)
"""Said of every run; what the stages say, and the command at its end, is enough."""

EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""How Prefect marks a server without pages and schedules, for one command."""


def start_server() -> None:
    """Start a Prefect server for this process, unless PREFECT_API_URL names one.

    Raises:
        ConnectionError: if it does not start, with its last words.
        ValueError: if Prefect is told not to start one.
    """
    server = SubprocessASGIServer()
    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED.value() or server.running:
        get_client(sync_client=True)
        return
    print("starting a Prefect server for this command", file=sys.stderr)
    child = _launch()
    # Prefect takes it for the one it would have started, and ends it with this process.
    server.port, server.server_process, server.running = int(child.answer or 0), child.process, True
    atexit.register(server.stop)


def _launch() -> Child:
    home, seconds = PREFECT_HOME.value(), PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    if PREFECT_API_DATABASE_CONNECTION_URL.value() == f"sqlite+aiosqlite:///{home}/prefect.db":
        # In a URL, a folder's '?' or '#' would mean something else.
        settings["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = "sqlite+aiosqlite:///prefect.db"
    child = Child("flows.prefect_server", environment=EPHEMERAL | settings, cwd=str(home))
    try:
        child.has_spoken.wait(seconds)
        if child.is_ready:
            return child
        reason = f"it was not ready after {seconds} s" if child.is_alive else child.failure()
    except BaseException:
        stop([child.process])
        raise
    stop([child.process])
    raise ConnectionError(f"the Prefect server for this command, with its database in {home}, did not start: {reason}")


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
