"""Reports in a workspace: a page, its pictures and tables, and a summary that an index and a dashboard read.

    reports/<digest>/report.html, report.json, picture-1-1.png, scores-1.csv, ...

``report_file`` is the only way by which a report is served, so it gives nothing else of a workspace away.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from scoreinv.spec import Json
from storage.errors import StoreError, StoreNotFound
from storage.uri import (
    is_local,
    join,
    list_names,
    local_path,
    read_bytes,
    read_json,
    remove_unfinished,
    write_bytes,
    write_json,
)

PAGE, SUMMARY = "report.html", "report.json"

PORT = 4201
"""Where ``scoreinv serve`` shows reports unless told otherwise; Prefect's own server is at 4200."""

_DIGEST = re.compile(r"[0-9a-f]{12}")
_SERVED = re.compile(r"[A-Za-z0-9_-]+\.(html|css|png|jpg|svg|gif|webp|csv|parquet|tex)")
"""A page, what a page may hold, and the tables beside it; no folders, no hidden files, no other data."""


class Listed(NamedTuple):
    """A report as an index shows it; ``generated`` is a date as text, empty where it is not known."""

    digest: str
    title: str
    generated: str
    n_slices: int | None


def write_report(uri: str, page: str, summary: Mapping[str, Json], files: Mapping[str, bytes]) -> None:
    """Put a report's pictures and tables, then the page: a folder without one is no report yet."""
    for name, content in files.items():
        write_bytes(join(uri, name), content)
    write_json(join(uri, SUMMARY), summary)
    write_bytes(join(uri, PAGE), page.encode())
    remove_unfinished(uri)


def list_reports(workspace: str) -> list[Listed]:
    """Every report of a workspace, the newest first; one whose summary cannot be read goes by its digest."""
    folder = join(workspace, "reports")
    found = [name for name in list_names(folder) if _DIGEST.fullmatch(name) and PAGE in list_names(join(folder, name))]
    return sorted((_listed(folder, digest) for digest in found), key=lambda one: one.generated, reverse=True)


def _listed(folder: str, digest: str) -> Listed:
    try:
        summary = read_json(join(folder, digest, SUMMARY))
        n_slices = int(summary["n_slices"])
        return Listed(digest, str(summary["title"]), str(summary["generated"]), n_slices)
    except (StoreNotFound, StoreError, KeyError, TypeError, ValueError):
        return Listed(digest, digest, "", None)


def report_file(workspace: str, digest: str, name: str) -> bytes:
    """The content of a report's page, or of a picture or a table of it.

    Raises:
        StoreNotFound: if there is none, or if it is anything else; a link that leads out of the reports is none.
    """
    if not _DIGEST.fullmatch(digest) or not _SERVED.fullmatch(name):
        raise StoreNotFound(f"reports/{digest}/{name} is no part of a report")
    folder = join(workspace, "reports")
    uri = join(folder, digest, name)
    if is_local(uri) and not local_path(uri).resolve().is_relative_to(local_path(folder).resolve() / digest):
        raise StoreNotFound(f"reports/{digest}/{name} lies outside of the report")
    try:
        return read_bytes(uri)
    except (IsADirectoryError, PermissionError) as error:
        raise StoreNotFound(f"reports/{digest}/{name} is no file that can be read") from error
