"""PostgreSQL as its image starts it, in a folder of its own."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.operations.processes import free_ports, until

PASSWORD = "secret"
DATABASE_USER = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs; Debian keeps them out of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = str(places[-1]) if places else shutil.which(name)
    assert found, "this needs PostgreSQL: apt-get install postgresql"
    return found


@contextmanager
def postgresql() -> Iterator[int]:
    """The port of a database cluster of its own, as the image of PostgreSQL makes it."""
    # Not among pytest's folders, which the user of the database may not enter.
    with tempfile.TemporaryDirectory(prefix="scoreinv-database-") as folder:
        yield from _database(Path(folder))


def _database(folder: Path) -> Iterator[int]:
    user = DATABASE_USER if os.geteuid() == 0 else None
    (folder / "password").write_text(PASSWORD)
    if user:
        shutil.chown(folder, user)
        shutil.chown(folder / "password", user)
    (port,) = free_ports(1)
    make = [
        program("initdb"),
        "-D",
        f"{folder}/data",
        "-U",
        "prefect",
        "--auth=scram-sha-256",
        f"--pwfile={folder}/password",
    ]
    subprocess.run(make, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    run = [program("postgres"), "-D", f"{folder}/data", "-p", f"{port}", "-h", "127.0.0.1", "-k", f"{folder}"]
    with (folder / "log").open("w") as words:
        process = subprocess.Popen(run, user=user, cwd=folder, stdout=words, stderr=words)
    try:
        ready = [program("pg_isready"), "--host", "127.0.0.1", "--port", f"{port}", "--username", "prefect"]
        until(lambda: subprocess.run(ready, stdout=subprocess.DEVNULL, check=False).returncode == 0, "PostgreSQL is up")
        sql(port, "create database prefect", "postgres")
        yield port
    finally:
        process.send_signal(signal.SIGINT)  # its fast way to end
        process.wait(60)


def sql(port: int, command: str, name: str = "prefect") -> str:
    """The answer to a statement, in the database of this name."""
    return call("psql", port, "-At", "-d", name, "-c", command).strip()


def call(name: str, port: int, *arguments: str) -> str:
    """What one of PostgreSQL's own programs says."""
    command = [program(name), "-h", "127.0.0.1", "-p", f"{port}", "-U", "prefect", *arguments]
    environment = {**os.environ, "PGPASSWORD": PASSWORD}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
