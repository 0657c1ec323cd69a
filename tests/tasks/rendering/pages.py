"""A report to look at: its parts, and what a browser would build of the page."""

import base64
import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from PIL import Image as Pillow

from scoreinv.modality import Window
from tasks.people import compared
from tasks.rendering import (
    MethodRow,
    Panel,
    People,
    Picture,
    ReportSection,
    render_report,
    scales_of,
)
from tasks.rendering.content import CSV, SliceRow
from tasks.rendering.figures import view_png
from tasks.rendering.views import columns_of

VOID = {"meta", "img", "input", "br", "link"}
LOADS = {"src", "href", "srcset", "data", "action", "poster"}
WINDOWS = (Window("usual window", -1000, 400), Window("bone", -500, 1300))


class Page(HTMLParser):
    """What a browser would build: checks that tags close in order, collects text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.loads: list[str] = []
        self.styles: list[str] = []
        self.images: list[tuple[str, bytes]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = {name: value or "" for name, value in attrs}
        self.loads += [value for name, value in named.items() if name in LOADS]
        self.styles.append(named.get("style", ""))
        if tag == "img":
            self.images.append((named["alt"], base64.b64decode(named["src"].removeprefix("data:image/png;base64,"))))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def panel(**changes: object) -> Panel:
    """A disc of water in air, with noise; the last result has a tenth of the naive image's noise."""
    rows, columns = np.mgrid[-1:1:48j, -1:1:64j]
    truth = np.where(rows**2 + columns**2 < 0.5, 0.0, -1000.0)
    noise = np.random.default_rng(0).normal(size=truth.shape)
    plain = Panel(
        title="Volume 7, slice 12",
        truth=truth,
        pictures=pictures(truth, {"FBP": 100 * noise, "TV": 30 * noise, "DDS": 10 * noise}),
        value_label="HU",
        windows=WINDOWS,
        pixel_mm=1.5,
    )
    return replace(plain, **changes)


def pictures(truth: np.ndarray, errors: dict[str, np.ndarray]) -> list[Picture]:
    """The last one with samples."""
    scores = {"FBP": {"psnr": 21.126, "ssim": 0.41}, "TV": {"psnr": 27.5}, "DDS": {"psnr": 33.333}}
    made = [Picture(name, truth + error, scores=scores.get(name, {})) for name, error in errors.items()]
    return [*made[:-1], replace(made[-1], std=np.full_like(truth, 12.0), n_samples=8)]


def picture_of(values: np.ndarray, scale_of: Panel | None = None) -> np.ndarray:
    """As the first window shows values."""
    shown = panel() if scale_of is None else scale_of
    return pixels(view_png(columns_of(shown, scales_of([shown]))[0].images[0]._replace(values=values)))


def people(**changes: object) -> People:
    """Eight people whom DDS finds better than TV, but for one; of each two slices but of the last, who has one."""
    names = [f"p{i}" for i in range(8)]
    means = {
        "FBP": {name: 20.0 + i for i, name in enumerate(names)},
        "TV": {name: 27.0 + (3 * i) % 8 for i, name in enumerate(names)},
        "DDS": {name: 30.0 + (3 * i) % 8 - (4 if i == 5 else 0) for i, name in enumerate(names)},
    }
    slices = [
        SliceRow(name, f"slice {k}", {m: one[name] for m, one in means.items()}) for name in names for k in (1, 2)
    ]
    plain = People("TV", {"psnr": compared(means, "TV")}, {"psnr": means}, "psnr", slices[:-1])
    return replace(plain, **changes)


def rows() -> list[MethodRow]:
    return [
        MethodRow("FBP", 32, 0, 0.0123, {"psnr": (21.5, 1.25), "ssim": (0.4, 0.05), "psnr_circle": (22.75, 1.5)}),
        MethodRow("TV", 32, 0, None, {"psnr": (27.0, 1.0), "ssim": (0.7, 0.04), "nmse": (0.03, 0.002)}),
        MethodRow("DDS", 32, 20, 0.84, {"psnr": (31.25, 2.125), "ssim": (0.69, 0.03), "sharpness": (0.123, 0.045)}),
    ]


def section(**changes: object) -> ReportSection:
    plain = ReportSection(
        heading="CT, 30 views",
        intro=["Thirty views."],
        rows=rows(),
        panels=[panel()],
        recipe_yaml="method:\n  kind: dds\n",
        baseline="FBP",
        files={CSV: "scores-1.csv"},
        stores={"Scores": "scores/0a1b2c3d4e5f"},
    )
    return replace(plain, **changes)


def report(*sections: ReportSection, title: str = "A report") -> str:
    return render_report(title, sections, versions={"torch": "2.13.0"}, generated="2025-01-01 12:00 UTC")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB")).astype(int)


def errors_of(factor: float) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(1).normal(size=(48, 64))
    return {"FBP": 20 * factor * noise, "TV": 10 * factor * noise, "DDS": 5 * factor * noise}
