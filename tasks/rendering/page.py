"""The report, and the page that lists reports, as HTML: one file each, by the templates in templates/."""

import base64
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from scoreinv.modality import MODALITIES, ValueClass
from tasks.rendering import persons, tables, views
from tasks.rendering.content import PARQUET, Across, Panel, ReportSection
from tasks.rendering.curves import curve_lines, curves_png
from tasks.rendering.figures import colour_stops, side_for, view_png
from tasks.rendering.reliability import reliability
from tasks.rendering.views import View


class Entry(NamedTuple):
    """One report of an index: where it is, and what is said of it; empty texts where nothing is known."""

    href: str
    title: str
    generated: str
    n_slices: str


def render_report(
    title: str,
    sections: Sequence[ReportSection],
    *,
    versions: Mapping[str, str],
    generated: str,
    across: Across | None = None,
    missing: Sequence[str] = (),
) -> str:
    """The whole page.

    Args:
        title: plain text, like all other texts here; it is escaped.
        sections: in the order shown.
        versions: of the software, by name.
        generated: when, as text.
        across: the methods over the settings of the sections, if these differ in one number.
        missing: what failed and is in no section.
    """
    max_side = side_for(sum(_n_views(panel) for section in sections for panel in section.panels))
    content = {"title": title, "sections": sections, "versions": versions, "generated": generated, "across": across}
    more = {"max_side": max_side, "parquet": PARQUET, "missing": missing}
    return _rendered("report.html.j2", content | more)


def render_index(place: str, entries: Sequence[Entry]) -> str:
    """The page that lists reports: plain texts in, escaped there; ``place`` says whose reports these are."""
    return _rendered("index.html.j2", {"title": "Reports", "place": place, "entries": entries})


def _n_views(panel: Panel) -> int:
    n_methods, n_spreads = len(panel.pictures), sum(one.doubt is not None for one in panel.pictures)
    n_images = n_methods if panel.truth is None else n_methods + 1
    return n_images * len(panel.windows) + (0 if panel.truth is None else n_methods) + n_spreads


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
        *(tables.grouped_metrics, tables.lede, tables.metric_of, tables.table_lines, tables.table_note),
        *(tables.people_lede, tables.people_lines, tables.people_names, tables.people_note),
        *(persons.boxes, persons.person_list, reliability),
        *(views.columns_of, views.inset_of, views.scale_bar_mm, views.scales_of, views.value_text, views.window_text),
        *(class_words, colour_stops, curve_lines, curves_png, png_source, small_words, view_source),
    )
    found.globals.update({function.__name__: function for function in known} | {"UNCERTAINTY": tables.UNCERTAINTY})
    return found


def view_source(view: View, max_side: int) -> str:
    """A view's picture as the source of an image within a page."""
    return png_source(view_png(view, max_side=max_side))


def png_source(picture: bytes) -> str:
    """A PNG as the source of an image within a page."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def small_words() -> str:
    """The small structures that are scored, for the legend."""
    known = [(traits.dicom_name, traits.small, traits.label) for traits in MODALITIES.values() if traits.small]
    return "; ".join(
        f"{name}: {small.diameter_mm:g} mm, {f'{small.contrast:g} {unit}'.strip()} or more"
        for name, small, unit in known
    )


def class_words() -> str:
    """The classes of values that errors are given for, for the legend."""
    return "; ".join(
        f"{traits.dicom_name}: " + ", ".join(f"{one.name} {_range_text(one, traits.label)}" for one in traits.classes)
        for traits in MODALITIES.values()
        if traits.classes
    )


def _range_text(one: ValueClass, unit: str) -> str:
    low, high = (views.value_text(limit) for limit in (one.low, one.high))
    if math.isinf(one.low):
        return f"below {high} {unit}".strip()
    return (f"from {low} {unit}" if math.isinf(one.high) else f"{low} to {high} {unit}").strip()
