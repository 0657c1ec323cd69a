"""One page with pictures and tables, both as files beside it too, and a summary of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prefect import task
from prefect.logging import get_run_logger

from scoreinv.spec import Json
from storage.reports import PAGE, write_report
from storage.scores import parquet_bytes, read_scores, writes_parquet
from storage.uri import join, read_bytes
from tasks import addresses
from tasks.across import across
from tasks.benchmark import name_of
from tasks.recipes import ReportRecipe
from tasks.rendering import ReportSection, latex_table, panel_png, render_report, scales_of
from tasks.rendering.content import CSV, LATEX, PARQUET, Across
from tasks.rendering.curves import curves_png
from tasks.running.shards import Execution
from tasks.running.stopping import stoppable
from tasks.study import headline_table, illustrated_section, setting_of
from tasks.versions import versions
from tasks.workspace import locate

CURVES = "curves.png"
"""Methods over settings, beside the page."""


@task(name="report")
@stoppable
def report(recipe: ReportRecipe, execution: Execution) -> str:
    """The reference of the report, always written anew: it costs little and shows what lies there now."""
    uris = [locate(execution.workspace, ref, "scores") for ref in recipe.scores]
    sections = _sections(recipe, execution.workspace, uris)
    together = across(
        [setting_of(execution.workspace, uri, one.people) for uri, one in zip(uris, sections, strict=True)]
    )
    generated = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = render_report(
        recipe.title, sections, versions=versions(), generated=generated, across=together, missing=recipe.missing
    )
    seal = addresses.seal_of_report(execution.workspace, recipe, page.encode(), versions())
    ref = addresses.of_report(recipe)
    write_report(
        join(execution.workspace, ref),
        page=page,
        summary=summary_of(recipe.title, sections, generated) | {"seal": seal},
        files=_pictures(sections) | _tables(sections, uris) | _curves(together),
    )
    for section in sections:
        get_run_logger().info("%s\n%s", section.heading, headline_table(section))
    return f"{ref}/{PAGE}"


def _sections(recipe: ReportRecipe, workspace: str, uris: Sequence[str]) -> list[ReportSection]:
    sections = [illustrated_section(workspace, uri, recipe.n_pictures) for uri in uris]
    sections = [replace(section, files=_files(number)) for number, section in enumerate(sections, 1)]
    names = recipe.names or [""] * len(sections)
    pairs = zip(sections, names, strict=True)
    return [one if _is_told_by(name, one.heading) else _called(one, name) for one, name in pairs]


def _called(section: ReportSection, name: str) -> ReportSection:
    return replace(section, heading=f"{section.heading} ({name})")


def _is_told_by(name: str, heading: str) -> bool:
    """Whether a heading says already what a study is called: nothing, or just what it measures."""
    measured, _, _ = heading.rpartition(", ")
    return name in ("", name_of(measured))


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
                "files": list(section.files.values()),
                "pictures": [
                    {"file": _picture_file(i, k), "title": panel.title} for k, panel in enumerate(section.panels, 1)
                ],
            }
            for i, section in enumerate(sections, 1)
        ],
    }


def _pictures(sections: Sequence[ReportSection]) -> dict[str, bytes]:
    return {
        _picture_file(i, k): panel_png(panel, scales_of(section.panels))
        for i, section in enumerate(sections, 1)
        for k, panel in enumerate(section.panels, 1)
    }


def _curves(together: Across | None) -> dict[str, bytes]:
    return {CURVES: curves_png(together)} if together else {}


def _files(number: int) -> dict[str, str]:
    """What lies beside the page for the section of this number, by what it is."""
    parquet = {PARQUET: f"scores-{number}.parquet"} if writes_parquet() else {}
    return {CSV: f"scores-{number}.csv", **parquet, LATEX: f"table-{number}.tex"}


def _tables(sections: Sequence[ReportSection], uris: Sequence[str]) -> dict[str, bytes]:
    """The content of these files."""
    found: dict[str, bytes] = {}
    for section, uri in zip(sections, uris, strict=True):
        found[section.files[CSV]] = read_bytes(join(uri, "scores.csv"))
        found[section.files[LATEX]] = latex_table(section).encode()
        if PARQUET in section.files:
            found[section.files[PARQUET]] = parquet_bytes(read_scores(uri))
    return found


def _picture_file(section: int, place: int) -> str:
    return f"picture-{section}-{place}.png"
