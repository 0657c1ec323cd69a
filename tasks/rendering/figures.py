"""Images as PNG: single views for the page, a whole panel for a dashboard."""

import io
import itertools
import math
import textwrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image as Pillow

from tasks.rendering.content import Image, Panel
from tasks.rendering.views import ERROR, GREY, SPREAD, Scale, View, caption_of, panel_views, scale_bar_mm, value_text

MAX_SIDE = 320
"""Larger images are averaged over whole squares of pixels, which keeps a page of eight panels near 3 MB."""

MISSING = (110, 122, 110)
"""Colour of values that are not numbers, greenish: no map above holds it."""

CELL, GAP, MARGIN, TOP, FOOT = 1.75, 0.08, 0.1, 0.36, 0.92
"""Inches: an image, the gap between two, the borders around all, above the images, and below them."""


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


def colour_stops(scale: Scale, n: int = 13) -> list[str]:
    """Evenly spaced colours of a scale from low to high, as ``#rrggbb``."""
    picks = _palette(scale)[np.linspace(0, scale.n_levels - 1, n).round().astype(int)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in picks]


def panel_png(panel: Panel, *, max_bytes: int = 100_000) -> bytes:
    """The whole panel as one small PNG with captions, as sharp as ``max_bytes`` allow."""
    figure = _panel_figure(panel)
    picture = b""
    for dpi in (120, 100, 80, 60, 40):
        picture = _figure_png(figure, dpi)
        if len(picture) <= max_bytes:
            break
    return picture


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
    palette = Pillow.new("P", (1, 1))
    palette.putpalette(_panel_palette())
    return _png_bytes(Pillow.open(buffer).convert("RGB").quantize(palette=palette, dither=Pillow.Dither.NONE))


def _panel_palette() -> list[int]:
    """255 colours that hold all three colour maps, so that none of them loses to the greys of noise."""
    scales = [Scale(GREY, 0, 1, "", 96), Scale(ERROR, 0, 1, "", 95), Scale(SPREAD, 0, 1, "", 63)]
    return [*np.concatenate([_palette(scale) for scale in scales]).ravel().tolist(), *MISSING]


def _panel_figure(panel: Panel) -> Figure:
    views = panel_views(panel)
    height = CELL * panel.result.shape[0] / panel.result.shape[1]
    size = (2 * MARGIN + len(views) * CELL + (len(views) - 1) * GAP, height + TOP + FOOT)
    figure = Figure(figsize=size, facecolor="white")
    figure.text(
        MARGIN / size[0],
        1 - 0.5 * TOP / size[1],
        panel.title,
        va="center",
        fontsize=10,
        weight="bold",
        parse_math=False,
    )
    for place, view in enumerate(views):
        left = MARGIN + place * (CELL + GAP)
        axes = figure.add_axes((left / size[0], FOOT / size[1], CELL / size[0], height / size[1]))
        _draw_view(axes, view)
        caption = f"{textwrap.shorten(view.name, 34, placeholder='…')}\n{caption_of(panel, view)}"
        axes.text(0, -0.06, caption, transform=axes.transAxes, va="top", fontsize=7, linespacing=1.4, parse_math=False)
        if place == 0:
            _draw_scale_bar(axes, panel)
    for _, group in itertools.groupby(range(len(views)), key=lambda place: views[place].scale):
        places = list(group)
        _draw_colour_bar(figure, views[places[0]].scale, (places[0], places[-1]))
    return figure


def _draw_view(axes: Any, view: View) -> None:
    axes.set_axis_off()
    if view.values is None:
        axes.text(
            0.5, 0.5, "not available", transform=axes.transAxes, ha="center", va="center", fontsize=7, color="0.5"
        )
        return
    colours = view.scale.colours.with_extremes(bad=[c / 255 for c in MISSING])
    axes.imshow(shrunk(view.values), cmap=colours, vmin=view.scale.low, vmax=view.scale.high, aspect="auto")


def _draw_scale_bar(axes: Any, panel: Panel) -> None:
    chip = {"facecolor": (0, 0, 0, 0.6), "edgecolor": "none", "pad": 1}
    length = scale_bar_mm(panel)
    share = length / (panel.result.shape[1] * panel.pixel_mm)
    axes.add_patch(Rectangle((0.04, 0.05), share, 0.015, transform=axes.transAxes, color="white", linewidth=0))
    axes.text(0.055, 0.1, f"{length:g} mm", transform=axes.transAxes, color="white", fontsize=6, bbox=chip)


def _draw_colour_bar(figure: Figure, scale: Scale, places: tuple[int, int]) -> None:
    width, height = figure.get_size_inches()
    first, last = places
    left, length = MARGIN + first * (CELL + GAP), (last - first + 1) * CELL + (last - first) * GAP
    axes = figure.add_axes((left / width, 0.3 / height, length / width, 0.08 / height))
    axes.imshow(np.linspace(0, 1, scale.n_levels)[None], cmap=scale.colours, aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([])
    style: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "fontsize": 6.5, "parse_math": False}
    for place, side in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        unit = f" {scale.unit}" if place == 1 and scale.unit else ""
        axes.text(place, -0.6, value_text(scale.low + place * (scale.high - scale.low)) + unit, ha=side, **style)
