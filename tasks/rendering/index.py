"""The page that lists reports."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from tasks.rendering.style import CSS


class Entry(NamedTuple):
    """One report: where it is, and what is said of it; empty texts where nothing is known."""

    href: str
    title: str
    generated: str
    n_slices: str


def render_index(place: str, entries: Sequence[Entry]) -> str:
    """The whole page: plain texts in, escaped here; ``place`` says whose reports these are."""
    rows = "".join(map(_row, entries))
    head = '<th scope="col">Report</th><th scope="col">Slices</th><th scope="col">Made</th>'
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    nothing = "<p>There are no reports yet: run <code>scoreinv demo</code> or <code>scoreinv pipeline</code>.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Reports</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{CSS}</style></head><body><main>"
        f'<header><h1>Reports</h1><p class="meta">{escape(place)}</p></header>'
        f"{table if entries else nothing}</main></body></html>\n"
    )


def _row(entry: Entry) -> str:
    link = f'<a href="{escape(entry.href)}">{escape(entry.title)}</a>'
    return f'<tr><th scope="row">{link}</th><td>{escape(entry.n_slices)}</td><td>{escape(entry.generated)}</td></tr>'
