"""The reliability diagram: how often intervals held, over how often they promised to."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from tasks.rendering.content import People
from tasks.rendering.figures import chart_png

PREFIX = "coverage_"
"""Begins the metrics that are shares of what intervals promise, in percent."""

SIDE = 3.5
"""Inches."""

COLOURS = ("#1f5fbf", "#c2410c", "#15803d", "#7c3aed", "#0b0b0d")


def reliability(people: People) -> bytes | None:
    """A curve for each method whose intervals are of several levels, as PNG; None if there is none."""
    held: dict[str, dict[float, list[float]]] = {}
    for name, methods in people.means.items():
        if name.startswith(PREFIX):
            for method, values in methods.items():
                shares = [x for x in values.values() if math.isfinite(x)]
                held.setdefault(method, {}).update({float(name.removeprefix(PREFIX)) / 100: shares} if shares else {})
    several = {method: levels for method, levels in held.items() if len(levels) > 1}
    return reliability_png(several) if several else None


def reliability_png(held: Mapping[str, Mapping[float, Sequence[float]]]) -> bytes:
    """One line per method through the means over people, with the middle four fifths of the people as bars.

    Args:
        held: of each method, for what was promised, the share that held of each person.
    """
    figure = Figure(figsize=(SIDE, SIDE), layout="constrained", facecolor="white")
    axes = figure.subplots()
    least = min(min(levels) for levels in held.values()) - 0.05
    axes.plot([least, 1], [least, 1], color="0.6", linewidth=1, linestyle="--")
    for place, (method, levels) in enumerate(held.items()):
        promised, colour = sorted(levels), COLOURS[place % len(COLOURS)]
        means = [float(np.mean(levels[level])) for level in promised]
        # Beside each other, so that methods do not hide one another.
        offset = 0.004 * (place - (len(held) - 1) / 2)
        for level in promised:
            low, high = np.percentile(levels[level], (10, 90))
            axes.vlines(level + offset, low, high, color=colour, alpha=0.4, linewidth=3)
        axes.plot([level + offset for level in promised], means, "o-", color=colour, label=method, markersize=4)
    axes.set_xlabel("promised", fontsize=9)
    axes.set_ylabel("held", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    legend = axes.legend(fontsize=7, frameon=False, loc="upper left")
    for text in legend.get_texts():
        text.set_parse_math(False)
    return chart_png(figure, dpi=150)
