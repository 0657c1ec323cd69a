"""The report, and the page that lists reports, as HTML: one file each, by the templates in templates/."""

import base64
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.rendering.content import ReportSection
from tasks.rendering.figures import colour_stops, view_png
from tasks.rendering.tables import costs, lede, metric_of, split_metrics, table_cells, table_note
from tasks.rendering.views import View, caption_of, other_scores, panel_views, scale_bar_mm, value_text


class Entry(NamedTuple):
    """One report of an index: where it is, and what is said of it; empty texts where nothing is known."""

    href: str
    title: str
    generated: str
    n_slices: str


def render_report(title: str, sections: Sequence[ReportSection], *, versions: Mapping[str, str], generated: str) -> str:
    """The whole page.

    Args:
        title: plain text, like all other texts here; it is escaped.
        sections: in the order shown.
        versions: of the software, by name.
        generated: when, as text.
    """
    content = {"title": title, "sections": sections, "versions": versions, "generated": generated}
    return _rendered("report.html.j2", content)


def render_index(place: str, entries: Sequence[Entry]) -> str:
    """The page that lists reports: plain texts in, escaped there; ``place`` says whose reports these are."""
    return _rendered("index.html.j2", {"title": "Reports", "place": place, "entries": entries})


def _rendered(template: str, content: Mapping[str, Any]) -> str:
    return _templates().get_template(template).render(content)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("tasks.rendering"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    known = (
        *(costs, lede, metric_of, split_metrics, table_cells, table_note),
        *(caption_of, colour_stops, other_scores, panel_views, scale_bar_mm, value_text, view_source),
    )
    found.globals.update({function.__name__: function for function in known})
    return found


def view_source(view: View) -> str:
    """A view's picture as the source of an image within a page."""
    return f"data:image/png;base64,{base64.b64encode(view_png(view)).decode()}"
