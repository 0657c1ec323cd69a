"""What a panel shows: a column of images for the truth and for each method, on scales that hold for the whole study."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from numpy.typing import NDArray

from scoreinv.modality import Window
from tasks.rendering.content import Image, Panel, Picture
from tasks.rendering.tables import MINUS, score_text

GREY = matplotlib.colormaps["gray"]
SPREAD = matplotlib.colormaps["magma"]
ERROR = LinearSegmentedColormap.from_list(
    "error", ["#d2f0ff", "#52aef2", "#1c5aa6", "#0b0b0d", "#a83a14", "#f28a3a", "#ffe6b0"]
)
"""Dark at zero like air in the images, so that what lights up is wrong; blue is too low, orange too high."""

PERCENTILE = 98
"""Where error and spread scales end: a few pixels, or the worse of the images, should not darken the rest."""

INSET_SHARE = 0.22
"""Side of the region that is shown enlarged, as a share of the image's shorter side."""


class Scale(NamedTuple):
    """Which values a colour map spans, from ``low`` to ``high``, in ``unit``."""

    colours: Colormap
    low: float
    high: float
    unit: str
    n_levels: int


class Scales(NamedTuple):
    """Of the errors and of the spreads of one study: what is brighter on one slice is worse than on another."""

    error: Scale
    spread: Scale
    doubt: str = "spread"
    """What the second is of, in words."""


class View(NamedTuple):
    """Values with the scale they are shown on, and what they are."""

    name: str
    values: Image
    scale: Scale


class Inset(NamedTuple):
    """A square region of an image, in pixels."""

    top: int
    left: int
    side: int

    def of(self, image: Image) -> Image:
        """The image's values within."""
        return image[self.top : self.top + self.side, self.left : self.left + self.side]


class Column(NamedTuple):
    """The truth, or one method: its image and the enlarged region in each window, its error and its spread.

    ``caption`` holds the scores; ``notes`` the mean error and the mean spread, empty where there is none; ``psnr`` is
    the lowest where it is not known.
    """

    name: str
    caption: str
    images: Sequence[View]
    insets: Sequence[View]
    error: View | None
    spread: View | None
    notes: tuple[str, str]
    psnr: float = -math.inf


def scales_of(panels: Sequence[Panel]) -> Scales:
    """One scale of errors for all slices and methods of a study, and one of half widths and spreads.

    Errors end where those of half the methods end, on the slice where these are largest; the naive image counts only
    where there is no other.
    """
    unit = panels[0].value_label if panels else ""
    known = [(panel.pictures[1:] or panel.pictures, panel.truth) for panel in panels if panel.truth is not None]
    tops = [statistics.median(_top(np.abs(one.image - truth), PERCENTILE) for one in made) for made, truth in known]
    limit = nice_ceiling(max(tops, default=0.0))
    spreads = [_top(one.doubt, PERCENTILE) for panel in panels for one in panel.pictures if one.doubt is not None]
    widest = nice_ceiling(max(spreads, default=0.0))
    words = dict.fromkeys(_doubt_word(one) for panel in panels for one in panel.pictures if one.doubt is not None)
    return Scales(
        Scale(ERROR, -limit, limit, unit, 127), Scale(SPREAD, 0.0, widest, unit, 127), " or ".join(words) or "spread"
    )


def columns_of(panel: Panel, scales: Scales) -> list[Column]:
    """The truth, if anybody knows it, and every method, in the panel's order."""
    inset = inset_of(panel)
    truth = [] if panel.truth is None else [_truth_column(panel, panel.truth, inset)]
    return [*truth, *(_column(panel, one, inset, scales) for one in panel.pictures)]


def _truth_column(panel: Panel, truth: Image, inset: Inset) -> Column:
    images, insets = _in_windows("Truth", truth, panel), _in_windows("Truth, enlarged", inset.of(truth), panel)
    return Column("Truth", "", images, insets, None, None, ("", ""))


def _column(panel: Panel, one: Picture, inset: Inset, scales: Scales) -> Column:
    images = _in_windows(one.method, one.image, panel)
    insets = _in_windows(f"{one.method}, enlarged", inset.of(one.image), panel)
    error = None if panel.truth is None else View(f"Error of {one.method}", one.image - panel.truth, scales.error)
    spread = None if one.doubt is None else View(spread_name(one), one.doubt, scales.spread)
    caption = " · ".join(score_text(name, one.scores[name]) for name in ("psnr", "ssim") if name in one.scores)
    notes = (
        "" if error is None else _mean_text("mean |error|", np.abs(error.values), panel.value_label),
        "" if one.doubt is None else _mean_text(f"mean {_doubt_word(one)}", one.doubt, panel.value_label),
    )
    return Column(one.method, caption, images, insets, error, spread, notes, one.scores.get("psnr", -math.inf))


def _doubt_word(one: Picture) -> str:
    return "spread" if one.half_width is None else "half width of 90 %"


def spread_name(one: Picture) -> str:
    """Such as "Spread of 8 samples of DDS", or "Half width of 90 % intervals of DDS"."""
    if one.half_width is not None:
        return f"Half width of 90 % intervals of {one.method}"
    n = f"{one.n_samples} samples" if one.n_samples > 1 else "samples"
    return f"Spread of {n} of {one.method}"


def _in_windows(name: str, values: Image, panel: Panel) -> list[View]:
    return [View(name, values, grey(window, panel.value_label)) for window in panel.windows]


def grey(window: Window, unit: str) -> Scale:
    """The scale of a window."""
    return Scale(GREY, window.low, window.high, unit, 255)


def inset_of(panel: Panel) -> Inset:
    """Where the naive image errs most within the body, as a mean over the region; without a truth, where the methods
    differ most there."""
    images = np.stack([one.image for one in panel.pictures])
    seen = images.mean(0) if panel.truth is None else panel.truth
    wrong = images.std(0) if panel.truth is None else np.abs(images[0] - panel.truth)
    side = max(2, round(INSET_SHARE * min(panel.shape)))
    sums = np.pad(np.nan_to_num(wrong * _body(seen > panel.above_air)).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    means = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(means.argmax()), means.shape)
    return Inset(int(top), int(left), side)


def _body(seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest thing that is seen, with what it surrounds: neither the table nor what touches the body thinly."""
    from scipy import ndimage

    opened = ndimage.binary_opening(seen, iterations=max(1, round(min(seen.shape) / 64)))
    labels, n = ndimage.label(opened)
    if not n:
        return seen
    body: NDArray[np.bool_] = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    return body


def window_text(window: Window, unit: str) -> str:
    """Such as "lung, −1350 to 150 HU"."""
    return f"{window.name}, {value_text(window.low)} to {value_text(window.high)} {unit}".strip()


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 8 times a power of ten that is not below ``value``; 1 for nothing."""
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def scale_bar_mm(panel: Panel) -> float:
    """A round length of about a quarter of the image's width."""
    quarter = panel.shape[1] * panel.pixel_mm / 3.5
    power = 10.0 ** math.floor(math.log10(quarter))
    return max(step * power for step in (1, 2, 5) if step * power <= quarter)


def value_text(value: float) -> str:
    """A value with three significant digits and a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", MINUS)


def _top(values: NDArray[Any], percentile: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percentile)) if finite.size else 0.0


def _mean_text(what: str, values: Image, unit: str) -> str:
    finite = values[np.isfinite(values)]
    return f"{what} {value_text(float(finite.mean()))} {unit}".strip() if finite.size else f"{what} n/a"
