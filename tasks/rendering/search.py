"""A picture of a search: the score over each value that was varied."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

N_COLUMNS, PANEL_INCHES = 4, (3.2, 2.8)

GIVEN, BEST, FAILED = "#0b0b0d", "#a83a14", "#f28a3a"


class Varied(NamedTuple):
    """One option: its name, its value in each trial, and whether factors matter in it."""

    name: str
    values: Sequence[Any]
    is_log: bool


def search_png(varied: Sequence[Varied], scores: Sequence[float | None], *, metric: str, title: str) -> bytes:
    """One panel per option, one point per trial, later ones darker; the first one is what was given.

    Args:
        varied: the options.
        scores: of the trials; None for those that failed, which stand as crosses at the foot.
        metric: what the scores are called.
        title: of the whole.
    """
    n_columns = min(len(varied), N_COLUMNS)
    n_rows = -(-len(varied) // n_columns)
    size = (max(n_columns * PANEL_INCHES[0], 5.5), n_rows * PANEL_INCHES[1] + 0.6)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).flat
    for panel, option in zip(panels, varied, strict=False):
        _draw(panel, option, scores)
    for panel in list(panels)[len(varied) :]:
        panel.set_axis_off()
    figure.supylabel(metric, fontsize=9)
    figure.suptitle(title, fontsize=10, parse_math=False)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _draw(axes: Axes, option: Varied, scores: Sequence[float | None]) -> None:
    scored = [(number, score) for number, score in enumerate(scores) if score is not None]
    places, names = _places(option.values)
    axes.set_xlabel(option.name, fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    if names:
        axes.set_xticks(range(len(names)), names)
    elif option.is_log:
        axes.set_xscale("log")
    numbers, found = [number for number, _ in scored], [score for _, score in scored]
    if scored:
        shades: dict[str, Any] = {"cmap": "Blues", "vmin": -len(scores) / 2, "vmax": len(scores)}
        axes.scatter([places[i] for i in numbers], found, c=numbers, s=22, label="trial (later: darker)", **shades)
    failed = [places[i] for i, score in enumerate(scores) if score is None]
    if failed:
        foot = axes.get_xaxis_transform()
        # Other than scatter, plot makes room for points whose height is not one of the data's.
        axes.plot(failed, [0.03] * len(failed), "x", color=FAILED, markersize=5, transform=foot, label="failed")
    if scores[0] is not None:
        axes.scatter(places[0], scores[0], marker="D", s=48, facecolors="none", edgecolors=GIVEN, label="as given")
    if scored:
        best, score = max(scored, key=lambda item: item[1])
        axes.scatter(places[best], score, marker="*", s=110, color=BEST, label="best")


def _places(values: Sequence[Any]) -> tuple[Sequence[float], list[str]]:
    """Where values stand, and the names of these places if they are not numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values, []
    names = sorted({str(value) for value in values})
    return [float(names.index(str(value))) for value in values], names
