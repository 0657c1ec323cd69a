"""The environment that a command gives Prefect, which reads it when it is imported."""

import logging
import os
import re
import sys
from pathlib import Path

from storage.uri import is_local, local_path
from tasks.workspace import require_folder

LOOPBACK = ("127.0.0.1", "localhost", "::1")


_PLACES = re.compile(r"PREFECT_(API_URL|PROFILE.*|.*DATABASE.*|.*EPHEMERAL_(ENABLED|MODE))")
"""Variables that say which server or which database there is."""

_SETTINGS = {".env": b"PREFECT_", "prefect.toml": b"", "pyproject.toml": b"[tool.prefect"}
"""Files of the folder of a command in which Prefect looks for settings, and what they hold then."""


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
    if "PREFECT_API_URL" not in os.environ and not _profiles().exists():
        # Without a server of the user's own, runs are recorded beside the results.
        home = local_path(workspace) / ".prefect" if is_local(workspace) else Path.home() / ".prefect"
        defaults["PREFECT_HOME"] = str(home)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" in os.environ and "PREFECT_API_URL" not in os.environ:
        require_folder(os.environ["PREFECT_HOME"], "PREFECT_HOME, where Prefect keeps its database")
    _spare_loopback()
    logging.getLogger("distributed").setLevel(logging.ERROR)


def has_no_server() -> bool:
    """Whether nobody has said anything of a Prefect server or its database: a command then has one of its own.

    Where Prefect is imported already, it has read its settings, and is asked itself.
    """
    if "prefect" in sys.modules or any(_PLACES.fullmatch(name) for name in os.environ):
        return False
    profiles = {_profiles(), Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser() / "profiles.toml"}
    settings = (Path(name) for name, words in _SETTINGS.items() if Path(name).is_file() and _holds(Path(name), words))
    return not any(path.exists() for path in (*profiles, *settings))


def _holds(path: Path, words: bytes) -> bool:
    return words.lower() in path.read_bytes().lower()


def _profiles() -> Path:
    return Path.home() / ".prefect" / "profiles.toml"


def _spare_loopback() -> None:
    """Keep what this machine says to itself from going through a proxy."""
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host.strip() for host in given.split(",") if host.strip()]
    hosts += [host for host in LOOPBACK if host not in hosts]
    # Some read the one and some the other.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)
