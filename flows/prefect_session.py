"""Prefect behind the command: its server where there is no other, and what of its log a person wants to see."""

import logging
import signal
import sys

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from tasks.mistakes import explain

ROUTINE = (
    "Beginning ",
    "Finished in state",
    "Encountered exception during execution",
    "Crash detected",
    "Starting temporary server",
    "Stopping temporary server",
)
"""Said of every run; what the stages say, and the command at its end, is enough."""


def start_server() -> None:
    """Start Prefect's temporary server, unless PREFECT_API_URL names one.

    A terminal sends Ctrl-C to all processes of a command. The server must live on to be told how the run ended
    (without it Prefect tries again for minutes), so it inherits that this signal is held back.
    """
    if not PREFECT_API_URL.value():
        print("starting a Prefect server for this command", file=sys.stderr)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        get_client(sync_client=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
