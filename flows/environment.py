"""The environment that a command gives Prefect, which reads it when it is imported."""

import logging
import os
from pathlib import Path

from storage.uri import is_local, local_path
from tasks.workspace import require_folder

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def prepare_prefect(workspace: str) -> None:
    """Set what the user has not set: where Prefect keeps its database, what it may send and say, how it connects.

    Raises:
        StoreError: if nothing can be written where the database would lie.
    """
    defaults = {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    if "PREFECT_API_URL" not in os.environ and not (Path.home() / ".prefect" / "profiles.toml").exists():
        # Without a server of the user's own, runs are recorded beside the results.
        home = local_path(workspace) / ".prefect" if is_local(workspace) else Path.home() / ".prefect"
        defaults["PREFECT_HOME"] = str(home)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" in os.environ and "PREFECT_API_URL" not in os.environ:
        require_folder(os.environ["PREFECT_HOME"], "PREFECT_HOME, where Prefect keeps its database")
    _spare_loopback()
    logging.getLogger("distributed").setLevel(logging.ERROR)


def _spare_loopback() -> None:
    """Keep what this machine says to itself from going through a proxy."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    hosts += [host for host in LOOPBACK if host not in hosts]
    # Some read the one and some the other.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
