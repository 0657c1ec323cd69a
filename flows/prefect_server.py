"""The Prefect server of one command, which ends with that command, however that ends.

    python -m flows.prefect_server
    python -m flows.prefect_server 5  # on a socket that listens already, inherited under this number

It says its port when it is ready. Servers of commands that share a database start one after the other, as Prefect's
migrations of a new database disturb each other.
"""

import socket
import sys
from pathlib import Path

from tasks.running.imports import without_collection
from tasks.running.processes import end_with_parent, say_ready

DATABASE = Path("prefect.db")
"""In the folder where this process runs: in a URL, a folder's '?' or '#' would mean something else."""


def main(arguments: list[str]) -> None:
    """Serve Prefect's API on this machine until this process is ended."""
    # Before the imports that take seconds, in which the parent may go.
    end_with_parent()
    with without_collection():
        import uvicorn
        from filelock import FileLock
        from prefect.server.api.server import create_app
        from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_HOME

        from flows.new_database import keep_copy, put_copy

    # Else it lies elsewhere, perhaps on a server.
    is_own = PREFECT_API_DATABASE_CONNECTION_URL.value() == f"sqlite+aiosqlite:///{DATABASE}"
    lock = FileLock(PREFECT_HOME.value() / "server.lock")

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if is_new:
                keep_copy(DATABASE)
            lock.release()
            say_ready(str(listener.getsockname()[1]))

    with socket.socket(fileno=int(arguments[0])) if arguments else socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on")
        # Not within the server, which holds signals back.
        lock.acquire()
        is_new = is_own and put_copy(DATABASE)
        Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1:])
