"""Images as PNG: grey windows, error maps and spread maps, each with a stated scale."""

import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image as Pillow

from tasks.rendering.content import Image, Panel

MAX_SIDE = 320
"""Larger images are averaged over whole squares of pixels, which keeps a page of eight panels near 3 MB."""

GREY = matplotlib.colormaps["gray"]
SPREAD = matplotlib.colormaps["magma"]
ERROR = LinearSegmentedColormap.from_list("error", ["#9adcff", "#2f86d6", "#0c1a2b", "#0b0b0d", "#2b120b", "#d9562a", "#ffd795"])
"""Dark at zero like air in the images, so that what lights up is wrong; blue is too low, orange too high."""

MISSING = (110, 122, 110)
"""Colour of values that are not numbers, greenish: no map above holds it."""

PERCENTILE = 99.5
"""Where error and spread scales end, so that a few pixels do not darken the rest."""


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
    """Truth, naive, result, the errors of the two on one scale, and the spread, in this order."""
    window = Scale(GREY, panel.low, panel.high, panel.value_label, 255)
    naive_error, result_error = panel.naive - panel.truth, panel.result - panel.truth
    limit = nice_ceiling(max(_top(np.abs(naive_error)), _top(np.abs(result_error))))
    error = Scale(ERROR, -limit, limit, panel.value_label, 127)
    spread = Scale(SPREAD, 0.0, nice_ceiling(0.0 if panel.std is None else _top(panel.std)), panel.value_label, 127)
    return [
        View("truth", "Truth", "fully sampled", panel.truth, window),
        View("naive", panel.naive_name, "", panel.naive, window),
        View("result", panel.result_name, "", panel.result, window),
        View("error", f"Error of {panel.naive_name}", _mean_text("mean |error|", np.abs(naive_error), panel), naive_error, error),
        View("error", f"Error of {panel.result_name}", _mean_text("mean |error|", np.abs(result_error), panel), result_error, error),
        View("spread", _spread_name(panel), _spread_note(panel), panel.std, spread),
    ]


def view_png(view: View) -> bytes:
    """A view's pixels as an indexed PNG, at most ``MAX_SIDE`` pixels along each side.

    Raises:
        ValueError: if the view has no values.
    """
    if view.values is None:
        raise ValueError(f"view {view.name!r} has no values to show")
    shown = shrunk(view.values)
    share = (shown - view.scale.low) / (view.scale.high - view.scale.low)
    levels = np.clip(share, 0, 1) * (view.scale.n_levels - 1)
    indices = np.where(np.isnan(shown), view.scale.n_levels, np.round(np.nan_to_num(levels))).astype(np.uint8)
    picture = Pillow.fromarray(indices)
    picture.putpalette([*_palette(view.scale).ravel().tolist(), *MISSING])
    return _png_bytes(picture)


def shrunk(image: Image) -> Image:
    """The image, averaged over the smallest squares of pixels that bring both sides to ``MAX_SIDE`` or less."""
    factor = math.ceil(max(image.shape) / MAX_SIDE)
    if factor == 1:
        return image
    rows, columns = (side // factor for side in image.shape)
    cut = image[: rows * factor, : columns * factor]
    averaged: Image = cut.reshape(rows, factor, columns, factor).mean((1, 3))
    return averaged


def nice_ceiling(value: float) -> float:
    """The smallest of 1, 1.5, 2, 3, 5, 8 times a power of ten that is not below ``value``; 1 for nothing."""
    if not 0 < value < math.inf:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def scale_bar_mm(panel: Panel) -> float:
    """A round length of about a quarter of the image's width."""
    quarter = panel.truth.shape[1] * panel.pixel_mm / 3.5
    power = 10.0 ** math.floor(math.log10(quarter))
    return max(step * power for step in (1, 2, 5) if step * power <= quarter)


def colour_stops(scale: Scale, n: int = 13) -> list[str]:
    """Evenly spaced colours of a scale from low to high, as ``#rrggbb``."""
    picks = _palette(scale)[np.linspace(0, scale.n_levels - 1, n).round().astype(int)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in picks]


def value_text(value: float) -> str:
    """A value with three significant digits and a true minus sign."""
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text.replace("-", "−")


def panel_png(panel: Panel, *, max_bytes: int = 100_000) -> bytes:
    """The whole panel as one small PNG with captions, as sharp as ``max_bytes`` allow."""
    figure = _panel_figure(panel)
    picture = b""
    for dpi in (120, 100, 80, 60, 40):
        picture = _figure_png(figure, dpi)
        if len(picture) <= max_bytes:
            break
    return picture


def _top(values: NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, PERCENTILE)) if finite.size else 0.0


def _mean_text(what: str, values: Image, panel: Panel) -> str:
    finite = values[np.isfinite(values)]
    return f"{what} {value_text(float(finite.mean()))} {panel.value_label}".strip() if finite.size else f"{what} n/a"


def _spread_name(panel: Panel) -> str:
    return f"Spread of {panel.n_samples} samples" if panel.n_samples > 1 else "Spread of samples"


def _spread_note(panel: Panel) -> str:
    return "needs several samples" if panel.std is None else _mean_text("mean std", panel.std, panel)


def _palette(scale: Scale) -> NDArray[np.uint8]:
    colours: NDArray[np.uint8] = scale.colours(np.linspace(0, 1, scale.n_levels), bytes=True)[:, :3]
    return colours


def _png_bytes(picture: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _figure_png(figure: Figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    buffer.seek(0)
    return _png_bytes(Pillow.open(buffer).convert("RGB").quantize(160, dither=Pillow.Dither.NONE))


CELL, GAP, MARGIN, TOP, FOOT = 1.75, 0.08, 0.1, 0.36, 0.92
"""Inches: an image, the gap between two, the borders around all, above the images, and below them."""


def _panel_figure(panel: Panel) -> Figure:
    views = panel_views(panel)
    height = CELL * panel.truth.shape[0] / panel.truth.shape[1]
    size = (2 * MARGIN + len(views) * CELL + (len(views) - 1) * GAP, height + TOP + FOOT)
    figure = Figure(figsize=size, facecolor="white")
    figure.text(MARGIN / size[0], 1 - 0.5 * TOP / size[1], panel.title, va="center", fontsize=10, weight="bold")
    for place, view in enumerate(views):
        left = MARGIN + place * (CELL + GAP)
        axes = figure.add_axes((left / size[0], FOOT / size[1], CELL / size[0], height / size[1]))
        _draw_view(axes, view)
        caption = "\n".join(filter(None, (view.name, caption_of(panel, view))))
        axes.text(0, -0.06, caption, transform=axes.transAxes, va="top", fontsize=7, linespacing=1.4)
        if view.role == "truth":
            _draw_scale_bar(axes, panel)
    for first, last in ((0, 2), (3, 4), (5, 5)):
        _draw_colour_bar(figure, views[first].scale, (first, last))
    return figure


def caption_of(panel: Panel, view: View) -> str:
    """The line under a view: its scores on this slice, or its note."""
    from tasks.rendering.tables import score_text

    scores = panel.scores.get(view.name, {}) if view.role in ("naive", "result") else {}
    return " · ".join(score_text(name, scores[name]) for name in ("psnr", "ssim") if name in scores) or view.note


def _draw_view(axes: Any, view: View) -> None:
    axes.set_axis_off()
    if view.values is None:
        axes.text(0.5, 0.5, "not available", transform=axes.transAxes, ha="center", va="center", fontsize=7, color="0.5")
        return
    colours = view.scale.colours.with_extremes(bad=[c / 255 for c in MISSING])
    axes.imshow(shrunk(view.values), cmap=colours, vmin=view.scale.low, vmax=view.scale.high, aspect="auto")


def _draw_scale_bar(axes: Any, panel: Panel) -> None:
    length = scale_bar_mm(panel)
    share = length / (panel.truth.shape[1] * panel.pixel_mm)
    axes.add_patch(Rectangle((0.04, 0.05), share, 0.015, transform=axes.transAxes, color="white"))
    axes.text(0.04, 0.08, f"{length:g} mm", transform=axes.transAxes, color="white", fontsize=6)


def _draw_colour_bar(figure: Figure, scale: Scale, places: Sequence[int]) -> None:
    width, height = figure.get_size_inches()
    first, last = places
    left, length = MARGIN + first * (CELL + GAP), (last - first + 1) * CELL + (last - first) * GAP
    axes = figure.add_axes((left / width, 0.3 / height, length / width, 0.08 / height))
    axes.imshow(np.linspace(0, 1, scale.n_levels)[None], cmap=scale.colours, aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([])
    for place, side in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        value = scale.low + place * (scale.high - scale.low)
        unit = f" {scale.unit}" if place == 1 and scale.unit else ""
        axes.text(place, -0.6, value_text(value) + unit, transform=axes.transAxes, ha=side, va="top", fontsize=6.5)
