"""The report as one HTML file: no scripts, no requests, images inside."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from tasks.rendering.content import Panel, ReportSection
from tasks.rendering.figures import colour_stops, view_png
from tasks.rendering.style import CSS
from tasks.rendering.tables import html_table, lede, left_out_note, score_text, split_metrics
from tasks.rendering.views import Scale, View, caption_of, panel_views, scale_bar_mm, value_text

NOTICE = (
    "<b>Research output, not for diagnosis.</b> The images were computed from incomplete measurements with the help of "
    "a model of what such images look like. They may show structures that are not there, or miss some that are."
)

LEGEND = {
    "Truth": "The image that the measurements were made from. All scores compare with it.",
    "Naive reconstruction": "What the usual one-step formula makes of the same incomplete measurements: filtered "
    "backprojection for CT, zero-filled Fourier inversion for MRI. Its streaks and blur are what a method must remove.",
    "Result": "The reconstruction by the method named under it. Truth, naive reconstruction and result share one grey "
    "window, given by the bar under them: values below it are black, values above it white.",
    "Error": "Reconstruction minus truth, with its sign. Dark is right, blue too low, orange too high. Both error "
    "maps share one scale, so the brighter one is worse; errors beyond its ends take the colours of the ends.",
    "Spread": "The standard deviation, pixel by pixel, of several reconstructions from the same measurements. Dark: "
    "the samples agree, measurements and model settle the value. Bright: they differ, do not rely on detail there. "
    "Agreement is no proof: where the error map is bright and the spread dark, the method is sure and wrong.",
    "PSNR, dB": "Peak signal-to-noise ratio; higher is better, and 6 dB more halve the error.",
    "SSIM": "Structural similarity between 0 and 1; higher is better. It weighs local contrast and texture.",
    "NMSE": "Squared error as a share of the image's squared values; lower is better.",
    "Spread / error": "Spread of the samples over the error of their mean. Near 1 is honest; below 1 the samples are "
    "too sure of themselves, above 1 too unsure.",
    "Coverage of 90 %": "Share of pixels whose truth lies in the samples' 90 % interval; it should be 0.90.",
    "Network calls": "How often the neural network ran for one slice; what a method costs on any machine.",
    "Tables": "Mean ± standard deviation over the slices. The best mean is bold; the small number is the difference to "
    "the baseline's mean.",
    "Display": "Images above 320 pixels are shown averaged over squares of pixels; scores use all. Click an image "
    "to enlarge it, click again to close it.",
}


def render_report(title: str, sections: Sequence[ReportSection], *, versions: Mapping[str, str], generated: str) -> str:
    """The whole page.

    Args:
        title: plain text, like all other texts here; it is escaped.
        sections: in the order shown.
        versions: of the software, by name.
        generated: when, as text.
    """
    body = "".join(_section(section, f"s{i}") for i, section in enumerate(sections, 1))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="meta">{escape(generated)}</p>'
        f'<p class="notice">{NOTICE}</p></header>'
        f"{_navigation(sections)}{body or '<section><p>There are no results to report yet.</p></section>'}"
        f"{_legend()}{_versions(versions)}</main></body></html>\n"
    )


def _navigation(sections: Sequence[ReportSection]) -> str:
    links = [f'<a href="#s{i}">{escape(section.heading)}</a>' for i, section in enumerate(sections, 1)]
    return f'<nav>{"".join(links)}<a href="#legend">How to read this report</a></nav>'


def _section(section: ReportSection, anchor: str) -> str:
    intro = "".join(f"<p>{escape(line)}</p>" for line in section.intro)
    panels = "".join(_panel(panel) for panel in section.panels)
    return (
        f'<section id="{anchor}"><h2>{escape(section.heading)}</h2>{intro}'
        f"{_tables(section)}{panels}{_recipe(section.recipe_yaml)}</section>"
    )


def _tables(section: ReportSection) -> str:
    if not section.rows:
        return '<p class="soft">No method has been scored yet.</p>'
    headlines, details = split_metrics(section.rows)
    sentence = lede(section.rows, baseline=section.baseline)
    more = html_table(section.rows, details, baseline=section.baseline) if details else ""
    return (
        (f'<p class="lede">{escape(sentence)}</p>' if sentence else "")
        + html_table(section.rows, headlines, baseline=section.baseline)
        + _table_note(section)
        + (f"<details><summary>More metrics</summary>{more}</details>" if more else "")
    )


def _table_note(section: ReportSection) -> str:
    notes = []
    if any(row.method == section.baseline for row in section.rows) and len(section.rows) > 1:
        notes.append(f"Mean ± standard deviation over slices; below it, the difference to {section.baseline}.")
    if len({row.n for row in section.rows}) > 1:
        notes.append("The methods were scored on different numbers of slices: compare with care.")
    notes.append(left_out_note(section.rows))
    return f'<p class="soft">{escape(" ".join(filter(None, notes)))}</p>' if any(notes) else ""


def _panel(panel: Panel) -> str:
    views = panel_views(panel)
    strip = (
        _group("images", views[:3], panel) + _group("errors", views[3:5], panel) + _group("spread", views[5:], panel)
    )
    heading = f"<h3>{escape(panel.title)}</h3>"
    return f'<article class="panel">{heading}<div class="strip">{strip}</div>{_others(panel)}</article>'


def _group(kind: str, views: Sequence[View], panel: Panel) -> str:
    figures = "".join(_figure(view, panel) for view in views)
    bar = "" if all(view.values is None for view in views) else _bar(views[0].scale)
    return f'<div class="group {kind}">{figures}{bar}</div>'


def _figure(view: View, panel: Panel) -> str:
    caption = f"<b>{escape(view.name)}</b><span>{escape(caption_of(panel, view))}</span>"
    return f"<figure>{_frame(view, panel)}<figcaption>{caption}</figcaption></figure>"


def _frame(view: View, panel: Panel) -> str:
    height, width = panel.truth.shape
    shape = f'style="aspect-ratio:{width}/{height}"'
    if view.values is None:
        return f'<div class="frame empty" {shape}>one sample only</div>'
    name = escape(f"{view.name}, {panel.title}")
    bar = _scale_bar(panel) if view.role in ("truth", "naive", "result") else ""
    source = base64.b64encode(view_png(view)).decode()
    return (
        f'<label class="frame" {shape}><input type="checkbox" aria-label="Enlarge: {name}">'
        f'<img alt="{name}" src="data:image/png;base64,{source}">{bar}</label>'
    )


def _scale_bar(panel: Panel) -> str:
    length = scale_bar_mm(panel)
    share = length / (panel.truth.shape[1] * panel.pixel_mm)
    return f'<span class="length" style="width:{share:.2%}"><span>{length:g} mm</span></span>'


def _bar(scale: Scale) -> str:
    middle = (scale.low + scale.high) / 2
    unit = f" {escape(scale.unit)}" if scale.unit else ""
    return (
        f'<div class="bar"><i style="background:linear-gradient(to right,{",".join(colour_stops(scale))})"></i>'
        f"<div><span>{value_text(scale.low)}</span><span>{value_text(middle)}</span>"
        f"<span>{value_text(scale.high)}{unit}</span></div></div>"
    )


def _others(panel: Panel) -> str:
    """Scores of methods that the panel does not show."""
    shown = (panel.naive_name, panel.result_name)
    texts = [
        f"{method}: " + ", ".join(score_text(name, value) for name, value in scores.items())
        for method, scores in panel.scores.items()
        if method not in shown and scores
    ]
    return f'<p class="others">Other methods on this slice · {escape(" · ".join(texts))}</p>' if texts else ""


def _recipe(recipe_yaml: str) -> str:
    if not recipe_yaml.strip():
        return ""
    return f"<details><summary>Recipe: makes these results again</summary><pre>{escape(recipe_yaml)}</pre></details>"


def _legend() -> str:
    entries = "".join(f"<dt>{term}</dt><dd>{meaning}</dd>" for term, meaning in LEGEND.items())
    return f'<section id="legend"><h2>How to read this report</h2><dl>{entries}</dl></section>'


def _versions(versions: Mapping[str, str]) -> str:
    if not versions:
        return ""
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(version)}</dd>" for name, version in versions.items())
    return f"<section><h2>Made with</h2><dl>{entries}</dl></section>"
