"""What a panel shows: its images, each on a stated scale, and the words under them."""

import math
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from numpy.typing import NDArray

from tasks.rendering.content import Image, Panel
from tasks.rendering.tables import MINUS, score_text

GREY = matplotlib.colormaps["gray"]
SPREAD = matplotlib.colormaps["magma"]
ERROR = LinearSegmentedColormap.from_list(
    "error", ["#d2f0ff", "#52aef2", "#1c5aa6", "#0b0b0d", "#a83a14", "#f28a3a", "#ffe6b0"]
)
"""Dark at zero like air in the images, so that what lights up is wrong; blue is too low, orange too high."""

NAIVE_PERCENTILE, PERCENTILE = 90, 99.5
"""Where error and spread scales end: a few pixels, or the worse of two images, should not darken the rest."""


class Scale(NamedTuple):
    """Which values a colour map spans, from ``low`` to ``high``, in ``unit``."""

    colours: Colormap
    low: float
    high: float
    unit: str
    n_levels: int


class View(NamedTuple):
    """One image of a panel with its scale and the lines under it."""

    role: str
    name: str
    note: str
    values: Image | None
    scale: Scale


def panel_views(panel: Panel) -> list[View]:
    """Truth, naive, result, the errors of the two on one scale, and the spread, in this order.

    Where nobody knows the truth, neither it nor the errors are among them.
    """
    window = Scale(GREY, panel.low, panel.high, panel.value_label, 255)
    spread = Scale(
        SPREAD, 0.0, nice_ceiling(0.0 if panel.std is None else _top(panel.std, PERCENTILE)), panel.value_label, 127
    )
    return [
        *([] if panel.truth is None else [View("truth", "Truth", "reference", panel.truth, window)]),
        View("naive", panel.naive_name, "", panel.naive, window),
        View("result", panel.result_name, "", panel.result, window),
        *([] if panel.truth is None else _error_views(panel, panel.truth)),
        View("spread", *_spread_words(panel), panel.std, spread),
    ]


def _error_views(panel: Panel, truth: Image) -> list[View]:
    """Of the naive image and of the result, on one scale."""
    names = [f"Error of {panel.naive_name}", f"Error of {panel.result_name}"]
    errors = [panel.naive - truth, panel.result - truth]
    tops = [_top(np.abs(e), share) for e, share in zip(errors, (NAIVE_PERCENTILE, PERCENTILE), strict=True)]
    limit = nice_ceiling(max(tops))
    scale = Scale(ERROR, -limit, limit, panel.value_label, 127)
    notes = [_mean_text("mean |error|", np.abs(error), panel) for error in errors]
    return [View("error", *one, scale) for one in zip(names, notes, errors, strict=True)]


def caption_of(panel: Panel, view: View) -> str:
    """The line under a view: its scores on this slice, or its note."""
    scores = panel.scores.get(view.name, {}) if view.role in ("naive", "result") else {}
    return " · ".join(score_text(name, scores[name]) for name in ("psnr", "ssim") if name in scores) or view.note


def other_scores(panel: Panel) -> str:
    """Scores on this slice of methods that the panel does not show, in one line; empty if there are none."""
    shown = (panel.naive_name, panel.result_name)
    return " · ".join(
        f"{method}: " + ", ".join(score_text(name, value) for name, value in scores.items())
        for method, scores in panel.scores.items()
        if method not in shown and scores
    )


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 8 times a power of ten that is not below ``value``; 1 for nothing."""
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def scale_bar_mm(panel: Panel) -> float:
    """A round length of about a quarter of the image's width."""
    quarter = panel.result.shape[1] * panel.pixel_mm / 3.5
    power = 10.0 ** math.floor(math.log10(quarter))
    return max(step * power for step in (1, 2, 5) if step * power <= quarter)


def value_text(value: float) -> str:
    """A value with three significant digits and a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", MINUS)


def _top(values: NDArray[Any], percentile: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percentile)) if finite.size else 0.0


def _mean_text(what: str, values: Image, panel: Panel) -> str:
    finite = values[np.isfinite(values)]
    return f"{what} {value_text(float(finite.mean()))} {panel.value_label}".strip() if finite.size else f"{what} n/a"


def _spread_words(panel: Panel) -> tuple[str, str]:
    """The name of the spread and the note below it."""
    if panel.std is None:
        return "Spread of samples", "needs several samples"
    n = f"{panel.n_samples} samples" if panel.n_samples > 1 else "samples"
    name = f"Spread of {n}" + (f" of {panel.spread_of}" if panel.spread_of else "")
    return name, _mean_text("mean std", panel.std, panel)
