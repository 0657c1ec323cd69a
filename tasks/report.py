"""One page with pictures and tables, and the same as artifacts of the run."""

import base64
import importlib.metadata
from dataclasses import replace
from datetime import UTC, datetime

from prefect import task
from prefect.artifacts import create_image_artifact, create_link_artifact, create_markdown_artifact
from prefect.logging import get_run_logger

import scoreinv
from storage.uri import join, write_bytes
from tasks.recipes import ReportRecipe
from tasks.rendering import ReportSection, panel_png, render_report
from tasks.shards import Execution
from tasks.study import headline_table, section_of
from tasks.workspace import locate, reference

PACKAGES = ("torch", "numpy", "zarr", "dask", "prefect")


@task(name="report")
def report(recipe: ReportRecipe, execution: Execution) -> str:
    """The reference of the report, always written anew: it costs little and shows what lies there now."""
    uris = [locate(execution.workspace, ref, "scores") for ref in recipe.scores]
    sections = [section_of(execution.workspace, uri, recipe.n_pictures) for uri in uris]
    if recipe.names:
        pairs = zip(sections, recipe.names, strict=True)
        sections = [replace(section, heading=f"{section.heading} ({name})") for section, name in pairs]
    page = render_report(recipe.title, sections, versions=_versions(), generated=_now())
    ref = reference("reports", recipe.digest())
    uri = join(execution.workspace, ref, "report.html")
    write_bytes(uri, page.encode())
    for section in sections:
        _show(section)
    create_link_artifact(_link(uri), link_text="The report", description=recipe.title)
    for section in sections:
        get_run_logger().info("%s\n%s", section.heading, headline_table(section))
    return f"{ref}/report.html"


def _show(section: ReportSection) -> None:
    """The section's table and pictures as artifacts of the run."""
    create_markdown_artifact(f"## {section.heading}\n\n{headline_table(section)}", description=section.heading)
    for panel in section.panels:
        image = base64.b64encode(panel_png(panel)).decode()
        create_image_artifact(f"data:image/png;base64,{image}", description=f"{section.heading}: {panel.title}")


def _versions() -> dict[str, str]:
    return {"scoreinv": scoreinv.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _link(uri: str) -> str:
    return uri if "://" in uri else f"file://{uri}"
