"""The Prefect server of one command, which ends with that command, however that ends.

    python -m flows.prefect_server

    python -m flows.prefect_server 5  # on a socket that listens already, inherited under this number

It says its port when it is ready. Servers of commands that share a database start one after the other, as Prefect's
migrations of a new database disturb each other.
"""

import gc
import socket
import sys

from tasks.running.processes import end_with_parent, say_ready


def main(arguments: list[str]) -> None:
    """Serve Prefect's API on this machine until this process is ended."""
    # Before the imports that take seconds, in which the parent may go.
    end_with_parent()
    # Of what they make nothing is ever garbage, and looking for it takes a quarter of their time.
    gc.disable()
    import uvicorn
    from filelock import FileLock
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_HOME

    lock = FileLock(PREFECT_HOME.value() / "server.lock")

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            lock.release()
            gc.freeze()
            gc.enable()
            say_ready(str(listener.getsockname()[1]))

    with socket.socket(fileno=int(arguments[0])) if arguments else socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on")
        # Not within the server, which holds signals back.
        lock.acquire()
        Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1:])
