"""Box plots of methods over people."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tasks.rendering.figures import chart_png

WIDTH, LINE, REST = 3.5, 0.34, 0.55
"""Inches: of the figure, of one method, and of what is above and below the methods."""

N_FOR_BOX = 5
"""People below which a box would say more than is known: they are drawn as points alone."""

BOX, POINT = "#1f5fbf", "#0b0b0d"


def boxes_png(values: Mapping[str, Sequence[float]], label: str) -> bytes:
    """One line per method: quartiles and median, whiskers of at most 1.5 times the box, and every person as a point.

    Args:
        values: of each method one number for each person.
        label: of the axis.
    """
    figure = Figure(figsize=(WIDTH, LINE * len(values) + REST), layout="constrained", facecolor="white")
    axes = figure.subplots()
    for place, one in enumerate(values.values()):
        _draw(axes, place, one)
    names = [textwrap.fill(name, 20, max_lines=2, placeholder=" …") for name in values]
    axes.set_yticks(range(len(values)), names, fontsize=8, parse_math=False)
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.set_xlabel(label, fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return chart_png(figure, dpi=150)


def _draw(axes: Axes, place: int, values: Sequence[float]) -> None:
    if len(values) >= N_FOR_BOX:
        first, median, third = (float(q) for q in np.percentile(values, (25, 50, 75)))
        reach = 1.5 * (third - first)
        low, high = min(x for x in values if x >= first - reach), max(x for x in values if x <= third + reach)
        axes.barh(place, third - first, left=first, height=0.6, fill=False, edgecolor=BOX, linewidth=1.2)
        axes.hlines([place, place], [low, third], [first, high], color=BOX, linewidth=1.2)
        axes.vlines(median, place - 0.3, place + 0.3, color=BOX, linewidth=2.4)
    # Spread a little, so that equal people do not hide each other; always in the same way.
    offsets = [0.24 * ((i * 0.618) % 1 - 0.5) for i in range(len(values))]
    axes.scatter(values, [place + offset for offset in offsets], s=7, color=POINT, alpha=0.55, linewidths=0, zorder=3)
