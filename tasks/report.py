"""One page with pictures and tables, its pictures as files, and a summary of both."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prefect import task
from prefect.logging import get_run_logger

from scoreinv.spec import Json
from storage.reports import PAGE, write_report
from storage.uri import join
from tasks import addresses
from tasks.recipes import ReportRecipe
from tasks.rendering import ReportSection, panel_png, render_report
from tasks.running.shards import Execution
from tasks.running.stopping import stoppable
from tasks.study import headline_table, section_of
from tasks.versions import versions
from tasks.workspace import locate


@task(name="report")
@stoppable
def report(recipe: ReportRecipe, execution: Execution) -> str:
    """The reference of the report, always written anew: it costs little and shows what lies there now."""
    uris = [locate(execution.workspace, ref, "scores") for ref in recipe.scores]
    sections = [section_of(execution.workspace, uri, recipe.n_pictures) for uri in uris]
    if recipe.names:
        pairs = zip(sections, recipe.names, strict=True)
        sections = [replace(section, heading=f"{section.heading} ({name})") for section, name in pairs]
    generated = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = render_report(recipe.title, sections, versions=versions(), generated=generated)
    seal = addresses.seal_of_report(execution.workspace, recipe, page.encode(), versions())
    ref = addresses.of_report(recipe)
    write_report(
        join(execution.workspace, ref),
        page=page,
        summary=summary_of(recipe.title, sections, generated) | {"seal": seal},
        pictures={
            _picture_file(i, k): panel_png(panel)
            for i, section in enumerate(sections, 1)
            for k, panel in enumerate(section.panels, 1)
        },
    )
    for section in sections:
        get_run_logger().info("%s\n%s", section.heading, headline_table(section))
    return f"{ref}/{PAGE}"


def summary_of(title: str, sections: Sequence[ReportSection], generated: str) -> dict[str, Json]:
    """What an index and a dashboard tell of a report; its pictures by their files beside the page."""
    return {
        "title": title,
        "generated": generated,
        "n_slices": sum(max((row.n for row in section.rows), default=0) for section in sections),
        "sections": [
            {
                "heading": section.heading,
                "table": headline_table(section),
                "pictures": [
                    {"file": _picture_file(i, k), "title": panel.title} for k, panel in enumerate(section.panels, 1)
                ],
            }
            for i, section in enumerate(sections, 1)
        ],
    }


def _picture_file(section: int, place: int) -> str:
    return f"picture-{section}-{place}.png"
