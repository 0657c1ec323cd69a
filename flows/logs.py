"""What of Prefect's log a person at a terminal wants to see."""

import logging

ROUTINE = ("Beginning ", "Finished in state Completed", "Stopping temporary server")
"""Said of every run; what the stages say themselves is enough."""


def quieten() -> None:
    """Drop Prefect's routine lines and tracebacks; the command prints the reason of a failure at its end."""
    for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    record.exc_info, record.exc_text, record.stack_info = None, None, None
    return not str(record.msg).startswith(ROUTINE)
