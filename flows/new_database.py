"""A new database for Prefect without its migrations, which take seconds: a copy of the first that a command made.

The copy lies in ``$XDG_CACHE_HOME/scoreinv`` (else ``~/.cache/scoreinv``) and may be removed. Its name has the version
of Prefect, whose migrations find nothing to do then; those of another version would.
"""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from tasks.versions import versions


def put_copy(database: Path) -> bool:
    """Put a copy in the place of a database that is not there; whether it was not there."""
    is_new = not database.exists()
    if is_new and _kept().is_file():
        partial = database.with_suffix(".partial")
        shutil.copyfile(_kept(), partial)
        os.replace(partial, database)
    return is_new


def keep_copy(database: Path) -> None:
    """Keep a copy of a database that has no runs yet, for others to begin with; nothing happens where it cannot be."""
    kept = _kept()
    if kept.exists():
        return
    with suppress(OSError, sqlite3.Error):
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = kept.with_name(f".{kept.name}.{os.getpid()}.partial")
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
            is_unused = copy.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
        if is_unused:
            os.replace(partial, kept)
        partial.unlink(missing_ok=True)


def _kept() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "scoreinv" / f"prefect-{versions()['prefect']}.db"
