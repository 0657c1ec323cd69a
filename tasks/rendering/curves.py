"""Methods over settings: one line for each in a picture, and one in a table, with means and intervals over people."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from tasks.people import OverPeople
from tasks.rendering.content import Across, Curve
from tasks.rendering.figures import chart_png
from tasks.rendering.tables import interval_text, metric_of, number

INCHES = (9.0, 4.6)
MARKERS = "osD^vP*X"
COLOURS = [tuple(map(float, colour)) for name in ("tab10", "Dark2") for colour in colormaps[name].colors]  # type: ignore[attr-defined]
LINES = {"nothing": ":", "reconstructor": "--", "prior": "-"}
"""By what a method has learned from."""


def curves_png(across: Across) -> bytes:
    """The picture, its legend in the order in which the lines end."""
    figure = Figure(figsize=INCHES, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    if across.trained_at is not None:
        axes.axvline(across.trained_at, color="0.88", linewidth=8, zorder=0)
    for place, curve in enumerate(sorted(across.curves, key=_last, reverse=True)):
        _draw(axes, across.values, curve, place)
    axes.set_xscale("log")
    axes.set_xticks(list(across.values), [f"{value:g}" for value in across.values])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(across.axis + ("; grey: where networks were trained" if across.trained_at is not None else ""))
    axes.set_ylabel(metric_of(across.metric).heading)
    axes.grid(visible=True, axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
    return chart_png(figure, dpi=140)


class CurveLine(NamedTuple):
    """A method's line of the table: for each setting mean, interval and whether it is the best there."""

    method: str
    cells: Sequence[tuple[str, str, bool]]


def curve_lines(across: Across) -> list[CurveLine]:
    """The table, in the order of the methods."""
    digits = metric_of(across.metric).digits
    best = [max(one.mean for one in points if one) for points in zip(*(c.points for c in across.curves), strict=True)]

    def cell(one: OverPeople | None, most: float) -> tuple[str, str, bool]:
        return (number(one.mean, digits), interval_text(one, digits), one.mean == most) if one else ("", "", False)

    return [
        CurveLine(curve.method, [cell(*pair) for pair in zip(curve.points, best, strict=True)])
        for curve in across.curves
    ]


def _draw(axes: object, values: Sequence[float], curve: Curve, place: int) -> None:
    known = [(value, one) for value, one in zip(values, curve.points, strict=True) if one is not None]
    spans = np.array([[one.mean - one.low, one.high - one.mean] for _, one in known])
    axes.errorbar(  # type: ignore[attr-defined]
        [value for value, _ in known],
        [one.mean for _, one in known],
        yerr=np.nan_to_num(spans).clip(0).T,
        label=curve.method,
        color=COLOURS[place % len(COLOURS)],
        linestyle=LINES[curve.needs],
        marker=MARKERS[place % len(MARKERS)],
        markersize=4,
        linewidth=1.4,
        elinewidth=0.6,
        capsize=2,
    )


def _last(curve: Curve) -> float:
    return next((one.mean for one in reversed(curve.points) if one is not None), -np.inf)
