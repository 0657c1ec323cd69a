"""The Prefect server of one command, begun before Prefect is imported here, so that both get ready at once.

Prefect reads its settings when it is imported. So the address is made first, and the server takes it over: who asks
before it is ready waits for the answer.
"""

import atexit
import os
import socket
import sys
from collections.abc import Mapping

from flows.environment import has_no_server
from flows.prefect_server import DATABASE as FILE
from tasks.running.processes import OWN_SERVER, Child, stop

EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""How Prefect marks a server without pages and schedules, for one command."""

DATABASE = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{FILE}"}
"""In the folder where the server runs."""


def begin() -> Child | None:
    """Start a server and name it to Prefect, which is not imported yet; it ends with this process.

    None where the user has said where Prefect's server or its database is, or where Prefect is imported already.
    """
    if not has_no_server():
        return None
    tell_start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = launch(os.environ["PREFECT_HOME"], EPHEMERAL | DATABASE, listener)
        os.environ[OWN_SERVER] = "yes"
        os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    # It has no pages that a log could point to.
    os.environ["PREFECT_UI_URL"] = ""
    # Before Prefect's own, which run first then, and say what is left to say.
    atexit.register(stop, [child.process])
    return child


def tell_start() -> None:
    """Say what takes a while."""
    print("starting a Prefect server for this command", file=sys.stderr)


def launch(home: str, environment: Mapping[str, str], listener: socket.socket | None = None) -> Child:
    """A server with its files in a folder, on a socket that listens already, or else on a port of its own."""
    arguments = [str(listener.fileno())] if listener else []
    descriptors = (listener.fileno(),) if listener else ()
    return Child("flows.prefect_server", *arguments, environment=environment, cwd=home, descriptors=descriptors)


def patience() -> float:
    """Seconds that a server may take to start."""
    return float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])


def require_ready(child: Child, home: str, seconds: float) -> None:
    """Wait until a server is ready.

    Raises:
        ConnectionError: if it does not start, with its last words; it is ended then.
    """
    try:
        has_spoken = child.has_spoken.wait(seconds)
        if child.is_ready:
            return
        # One that has spoken and is not ready has closed its mouth for good, though it may take a moment to end.
        reason = child.failure() if has_spoken else f"it was not ready after {seconds:g} s"
    except BaseException:
        stop([child.process])
        raise
    stop([child.process])
    raise ConnectionError(f"the Prefect server for this command, with its database in {home}, did not start: {reason}")
