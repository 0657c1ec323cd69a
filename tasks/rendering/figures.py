"""Images as PNG: single views for the page, a whole panel for a dashboard."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image as Pillow

from tasks.rendering.content import Image, Panel
from tasks.rendering.views import (
    ERROR,
    GREY,
    SPREAD,
    Column,
    Scale,
    Scales,
    View,
    columns_of,
    scale_bar_mm,
    value_text,
)

MAX_SIDE, MIN_SIDE = 320, 120
"""Larger images are averaged over whole squares of pixels: to the first, or to less on a page of very many."""

N_FULL_VIEWS = 250
"""Images on a page that may have ``MAX_SIDE``: 256 x 256 pixels of a body take 20 to 40 kB."""

MAX_COLUMNS = 6
"""Of a panel as one picture: truth, the naive image, and the best of the others."""

MISSING = (110, 122, 110)
"""Colour of values that are not numbers, greenish: no map above holds it."""

N_COLOURS = 96
"""Of a chart: lines, points and letters, and their soft edges."""

CELL, GAP, MARGIN, TOP, FOOT = 1.75, 0.08, 0.1, 0.66, 0.1
"""Inches: an image, the gap between two, the borders around all, above the images, and below them."""


def side_for(n_views: int) -> int:
    """The longest side of images on a page of so many, so that its size stays within some 15 MB."""
    return round(max(MIN_SIDE, MAX_SIDE * min(1.0, math.sqrt(N_FULL_VIEWS / max(n_views, 1)))))


def view_png(view: View, *, max_side: int = MAX_SIDE) -> bytes:
    """A view's pixels as an indexed PNG, at most ``max_side`` pixels along each side."""
    shown = shrunk(view.values, max_side=max_side)
    share = (shown - view.scale.low) / (view.scale.high - view.scale.low)
    levels = np.clip(share, 0, 1) * (view.scale.n_levels - 1)
    indices = np.where(np.isnan(shown), view.scale.n_levels, np.round(np.nan_to_num(levels))).astype(np.uint8)
    picture = Pillow.fromarray(indices)
    picture.putpalette([*_palette(view.scale).ravel().tolist(), *MISSING])
    return _png_bytes(picture)


def shrunk(image: Image, *, max_side: int = MAX_SIDE) -> Image:
    """The image, averaged over the smallest squares of pixels that bring both sides to ``max_side`` or less."""
    factor = math.ceil(max(image.shape) / max_side)
    if factor == 1:
        return image
    rows, columns = (side // factor for side in image.shape)
    cut = image[: rows * factor, : columns * factor]
    averaged: Image = cut.reshape(rows, factor, columns, factor).mean((1, 3))
    return averaged


def colour_stops(scale: Scale, n: int = 13) -> list[str]:
    """Evenly spaced colours of a scale from low to high, as ``#rrggbb``."""
    picks = _palette(scale)[np.linspace(0, scale.n_levels - 1, n).round().astype(int)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in picks]


def panel_png(panel: Panel, scales: Scales, *, max_bytes: int = 100_000) -> bytes:
    """Truth and methods side by side, errors and spreads below them, as one PNG as sharp as ``max_bytes`` allow."""
    figure = _panel_figure(panel, scales)
    picture = b""
    for dpi in (120, 100, 80, 60, 40):
        picture = _figure_png(figure, dpi)
        if len(picture) <= max_bytes:
            break
    return picture


def chart_png(figure: Figure, *, dpi: int) -> bytes:
    """A chart as an indexed PNG of its own ``N_COLOURS`` colours, a third of one in full colour."""
    return _png_bytes(_drawn(figure, dpi).quantize(N_COLOURS, dither=Pillow.Dither.NONE))


def _palette(scale: Scale) -> NDArray[np.uint8]:
    colours: NDArray[np.uint8] = scale.colours(np.linspace(0, 1, scale.n_levels), bytes=True)[:, :3]
    return colours


def _png_bytes(picture: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _figure_png(figure: Figure, dpi: int) -> bytes:
    palette = Pillow.new("P", (1, 1))
    palette.putpalette(_panel_palette())
    return _png_bytes(_drawn(figure, dpi).quantize(palette=palette, dither=Pillow.Dither.NONE))


def _drawn(figure: Figure, dpi: int) -> Pillow.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    buffer.seek(0)
    return Pillow.open(buffer).convert("RGB")


def _panel_palette() -> list[int]:
    """255 colours that hold all three colour maps, so that none of them loses to the greys of noise."""
    scales = [Scale(GREY, 0, 1, "", 96), Scale(ERROR, 0, 1, "", 95), Scale(SPREAD, 0, 1, "", 63)]
    return [*np.concatenate([_palette(scale) for scale in scales]).ravel().tolist(), *MISSING]


def _panel_figure(panel: Panel, scales: Scales) -> Figure:
    columns = _best_columns(columns_of(panel, scales))
    images: list[View | None] = [column.images[0] for column in columns]
    rows = [images, [one.error for one in columns], [one.spread for one in columns]]
    rows = [row for row in rows if any(row)]
    height = CELL * panel.shape[0] / panel.shape[1]
    size = (2 * MARGIN + len(columns) * (CELL + GAP) - GAP, TOP + FOOT + len(rows) * (height + GAP) - GAP)
    figure = Figure(figsize=size, facecolor="white")
    text: dict[str, Any] = {"va": "center", "parse_math": False}
    figure.text(MARGIN / size[0], 1 - 0.16 / size[1], panel.title, fontsize=10, weight="bold", **text)
    for i, row in enumerate(rows):
        bottom = size[1] - TOP - (i + 1) * height - i * GAP
        for j, view in enumerate(row):
            left = MARGIN + j * (CELL + GAP)
            axes = figure.add_axes((left / size[0], bottom / size[1], CELL / size[0], height / size[1]))
            _draw_view(axes, view)
            if i == 0:
                caption = f"{textwrap.shorten(columns[j].name, 34, placeholder='…')}\n{columns[j].caption}"
                axes.text(0, 1.04, caption, transform=axes.transAxes, va="bottom", fontsize=7, parse_math=False)
            if i == j == 0:
                _draw_scale_bar(axes, panel)
            if i and j == 0 and view is None:
                _draw_colour_bar(axes, next(one.scale for one in row if one), ("error", scales.doubt)[i - 1])
    return figure


def _best_columns(columns: Sequence[Column]) -> list[Column]:
    """Truth, the naive image, and of the others those of the highest PSNR on this slice, in the order given."""
    n_kept = 2 if columns[0].error is None else 1
    others = sorted(columns[n_kept:], key=lambda one: -one.psnr)[: MAX_COLUMNS - n_kept]
    return [*columns[:n_kept], *(one for one in columns[n_kept:] if one in others)]


def _draw_view(axes: Any, view: View | None) -> None:
    axes.set_axis_off()
    if view is None:
        return
    colours = view.scale.colours.with_extremes(bad=[c / 255 for c in MISSING])
    axes.imshow(shrunk(view.values), cmap=colours, vmin=view.scale.low, vmax=view.scale.high, aspect="auto")


def _draw_scale_bar(axes: Any, panel: Panel) -> None:
    chip = {"facecolor": (0, 0, 0, 0.6), "edgecolor": "none", "pad": 1}
    length = scale_bar_mm(panel)
    share = length / (panel.shape[1] * panel.pixel_mm)
    axes.add_patch(Rectangle((0.04, 0.05), share, 0.015, transform=axes.transAxes, color="white", linewidth=0))
    axes.text(0.055, 0.1, f"{length:g} mm", transform=axes.transAxes, color="white", fontsize=6, bbox=chip)


def _draw_colour_bar(axes: Any, scale: Scale, what: str) -> None:
    """In a cell without an image: the scale of the cells beside it."""
    inner = axes.inset_axes((0.04, 0.5, 0.9, 0.05))
    inner.imshow(np.linspace(0, 1, scale.n_levels)[None], cmap=scale.colours, aspect="auto", extent=(0, 1, 0, 1))
    inner.set_yticks([])
    inner.set_xticks([])
    style: dict[str, Any] = {"transform": inner.transAxes, "fontsize": 6.5, "parse_math": False}
    inner.text(0, 1.6, f"{what} in {scale.unit}" if scale.unit else what, va="bottom", **style)
    for place, side in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        inner.text(place, -0.6, value_text(scale.low + place * (scale.high - scale.low)), va="top", ha=side, **style)
