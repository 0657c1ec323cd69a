"""Methods over settings: one line for each, its mean over people with an interval."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tasks.people import OverPeople

INCHES = (8.0, 4.6)
MARKERS = "osD^vP*X"


class Axis(NamedTuple):
    """What differs between settings: its name, the value of each, and how these are written."""

    name: str
    values: Sequence[float]
    ticks: Sequence[str]


class Curve(NamedTuple):
    """A method over the settings; None where it has no scores."""

    name: str
    points: Sequence[OverPeople | None]
    style: str
    """Of the line, as matplotlib names it: by what the method has learned from."""


def curves_png(axis: Axis, curves: Sequence[Curve], *, heading: str, trained_at: float | None = None) -> bytes:
    """The picture.

    Args:
        axis: of the settings.
        curves: drawn from the best one at the last setting on, so that the legend stands as the lines do.
        heading: of the vertical axis.
        trained_at: where reconstructors were trained, None for nowhere.
    """
    figure = Figure(figsize=INCHES, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    if trained_at is not None:
        axes.axvline(trained_at, color="0.85", linewidth=6, zorder=0)
        axes.annotate("trained here", (trained_at, 0.01), xycoords=("data", "axes fraction"), fontsize=7, color="0.4")
    colours = _colours(len(curves))
    for number, (curve, colour) in enumerate(zip(_from_the_top(curves), colours, strict=True)):
        places = [place for place, point in enumerate(curve.points) if point is not None]
        found = [point for point in curve.points if point is not None]
        means = np.array([point.mean for point in found])
        spans = np.nan_to_num(np.array([[m.mean - m.low, m.high - m.mean] for m in found]).T)
        axes.errorbar(
            [axis.values[place] for place in places],
            means,
            yerr=spans.clip(0),
            label=curve.name,
            color=colour,
            linestyle=curve.style,
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            elinewidth=0.6,
            capsize=2,
        )
    axes.set_xscale("log")
    axes.set_xticks(list(axis.values), list(axis.ticks))
    axes.set_xticks([], minor=True)
    axes.set_xlabel(axis.name)
    axes.set_ylabel(heading)
    axes.grid(visible=True, axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return buffer.getvalue()


def _from_the_top(curves: Sequence[Curve]) -> list[Curve]:
    def last(curve: Curve) -> float:
        return next((point.mean for point in reversed(curve.points) if point is not None), -np.inf)

    return sorted(curves, key=last, reverse=True)


def _colours(n: int) -> list[tuple[float, float, float, float]]:
    """Far apart in hue, none too light to read."""
    from matplotlib import colormaps

    names = ("tab10", "Dark2")
    picked = [colour for name in names for colour in colormaps[name](np.arange(colormaps[name].N))]
    return [tuple(picked[i % len(picked)]) for i in range(n)]
