"""What the page of a run shows of its result, as artifacts with a key: Prefect's UI hides those without.

One result has one key, so that its artifacts of several runs are versions of each other.
"""

import base64
import os
import re
import shlex
from collections.abc import Sequence
from typing import Any

from prefect.artifacts import create_image_artifact, create_link_artifact, create_markdown_artifact

from storage.reports import PORT, SUMMARY
from storage.uri import join, read_bytes, read_json

URL_VARIABLE = "SCOREINV_REPORT_URL"
"""The environment variable by which a machine's runs know where their reports are served."""

EMBEDDED_BYTES = 1_000_000
"""Pictures of a report that its artifact holds at most: it is a row in Prefect's database."""


def artifact_key(*parts: str) -> str:
    """What Prefect calls an artifact: ``scores-0a1b2c3d4e5f`` for scores/0a1b2c3d4e5f."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def key_of(uri: str) -> str:
    """The key of a result that lies at ``<workspace>/<stage>/<digest>``."""
    return artifact_key(*uri.rstrip("/").split("/")[-2:])


def image_url(picture: bytes) -> str:
    """A PNG as a data URI: no browser needs to reach the file."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def show_report(workspace: str, ref: str, references: Sequence[str] = ()) -> None:
    """Show a report on the page of the run that calls this: its tables, pictures, what was made, and how to open it.

    Called by a flow itself and not by a task, so that it stands among the run's own results.

    Args:
        workspace: URI.
        ref: reports/<digest>/report.html.
        references: of all results of the run.
    """
    uri = join(workspace, ref.removesuffix("/report.html"))
    summary = read_json(join(uri, SUMMARY))
    shown = embedded_pictures(uri, summary["sections"])
    sections = "\n\n".join(_section_text(section, shown) for section in summary["sections"])
    made = "".join(f"- `{one}`\n" for one in dict.fromkeys(references))
    listed = f"\n## Results\n\n{made}" if made else ""
    text = f"# {plain(summary['title'])}\n\n{how_to_open(workspace, ref)}\n\n{sections}\n{listed}"
    # Their first words tell them apart, as a run's page shows no more of them.
    description = f"Tables and pictures: {summary['title']}"
    create_markdown_artifact(text, key=key_of(uri), description=description)
    for number, section in enumerate(summary["sections"], 1):
        for picture in section["pictures"][:1]:
            if picture["file"] in shown:
                url, title = shown[picture["file"]], f"Picture: {section['heading']}: {picture['title']}"
                create_image_artifact(url, key=artifact_key(key_of(uri), "picture", f"{number}"), description=title)
    if served := report_url(ref):
        key = artifact_key(key_of(uri), "link")
        create_link_artifact(
            served, link_text="Open the report", key=key, description=f"Open the report: {summary['title']}"
        )


def show_table(uri: str, heading: str) -> None:
    """Show the table.md of an evaluation, in the run that calls this."""
    create_markdown_artifact(read_bytes(join(uri, "table.md")).decode(), key=key_of(uri), description=heading)


def how_to_open(workspace: str, ref: str) -> str:
    """One line of Markdown: a link that works in a browser, or what to do to get one; never a file:// link."""
    if url := report_url(ref):
        return f"[Open the report]({url})"
    command = shlex.join(["scoreinv", "serve", "--workspace", workspace])
    said = f"To open the report, run `{command}`, then go to <http://127.0.0.1:{PORT}/{ref}>."
    wrong = os.environ.get(URL_VARIABLE, "")
    return f"{said} {URL_VARIABLE} is no http address: {plain(wrong)}" if wrong else said


def report_url(ref: str) -> str:
    """Where a report is served; empty where nobody said so, or said what no browser opens from a page of Prefect."""
    base = os.environ.get(URL_VARIABLE, "").strip().rstrip("/")
    return f"{base}/{ref}" if re.fullmatch(r"https?://[^\s()<>]+", base) else ""


def embedded_pictures(uri: str, sections: list[dict[str, Any]]) -> dict[str, str]:
    """Data URIs of pictures by file: the first of every section before the second of any, while they are small."""
    queues = [[picture["file"] for picture in section["pictures"]] for section in sections]
    ordered = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    found: dict[str, str] = {}
    n_bytes = 0
    for name in ordered:
        content = read_bytes(join(uri, name))
        n_bytes += len(content)
        if n_bytes > EMBEDDED_BYTES:
            break
        found[name] = image_url(content)
    return found


def _section_text(section: dict[str, Any], shown: dict[str, str]) -> str:
    pictures = [picture for picture in section["pictures"] if picture["file"] in shown]
    lines = [f"![{plain(picture['title'])}]({shown[picture['file']]})" for picture in pictures]
    if n_more := len(section["pictures"]) - len(pictures):
        lines.append(f"{n_more} more in the report.")
    return "\n\n".join([f"## {plain(section['heading'])}", section["table"], *lines])


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|!])", r"\\\1", " ".join(text.split()))
