"""Reports: what a reader sees is what went in."""

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image as Pillow

from tasks.rendering import MethodRow, Panel, ReportSection, markdown_table, panel_png, render_report
from tasks.rendering.figures import MAX_SIDE, MISSING, shrunk, view_png
from tasks.rendering.tables import MINUS, lede, number
from tasks.rendering.views import nice_ceiling, panel_views, scale_bar_mm

VOID = {"meta", "img", "input", "br", "link"}
LOADS = {"src", "href", "srcset", "data", "action", "poster"}


class Page(HTMLParser):
    """What a browser would build: checks that tags close in order, collects text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.loads: list[str] = []
        self.images: list[tuple[str, bytes]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = {name: value or "" for name, value in attrs}
        self.loads += [value for name, value in named.items() if name in LOADS]
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
    """A disc of water in air, with noise; the result has a tenth of the naive image's noise."""
    rows, columns = np.mgrid[-1:1:48j, -1:1:64j]
    truth = np.where(rows**2 + columns**2 < 0.5, 0.0, -1000.0)
    noise = np.random.default_rng(0).normal(size=truth.shape)
    plain = Panel(
        title="Volume 7, slice 12",
        truth=truth,
        naive=truth + 100 * noise,
        result=truth + 10 * noise,
        std=np.full_like(truth, 12.0),
        naive_name="FBP",
        result_name="DDS",
        scores={"FBP": {"psnr": 21.126, "ssim": 0.41}, "DDS": {"psnr": 33.333}, "TV": {"psnr": 27.5}},
        value_label="HU",
        low=-1000,
        high=400,
        pixel_mm=1.5,
        n_samples=8,
    )
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
    )
    return replace(plain, **changes)


def report(*sections: ReportSection, title: str = "A report") -> str:
    return render_report(title, sections, versions={"torch": "2.13.0"}, generated="2025-01-01 12:00 UTC")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Pillow.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_page_stands_alone() -> None:
    text = report(section())
    page = Page(text)
    assert all(load.startswith(("data:image/png;base64,", "#")) for load in page.loads)
    assert not re.search(r"https?://|@import|url\(", text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)


def test_the_page_says_what_went_in() -> None:
    text = Page(report(section())).text
    for part in (
        "A report",
        "CT, 30 views",
        "Thirty views.",
        "kind: dds",
        "torch",
        "2.13.0",
        "2025-01-01 12:00 UTC",
        "not for diagnosis",
        "PSNR 21.13 dB · SSIM 0.410",
        "PSNR 33.33 dB",
        "TV: PSNR 27.50 dB",
        "mean std 12 HU",
        f"{MINUS}1000",
        "400 HU",
        "20 mm",
    ):
        assert part in text


def test_texts_of_users_are_escaped() -> None:
    evil = "<script>alert('x')</script>&\"<b>"
    scores = {evil: {"psnr": 1.0}, "other" + evil: {evil: 2.0}}
    row = MethodRow(evil, 1, 0, 1.0, {evil: (1.0, 0.0)})
    spoiled = section(
        heading=evil,
        intro=[evil],
        rows=[row, row],
        panels=[panel(title=evil, naive_name=evil, result_name=evil, value_label=evil, scores=scores)],
        recipe_yaml=evil,
        baseline=evil,
    )
    page = Page(render_report(evil, [spoiled], versions={evil: evil}, generated=evil))
    assert "script" not in page.tags
    assert page.text.count(evil) > 15


def test_every_number_of_the_markdown_table_is_in_the_page() -> None:
    markdown = markdown_table(rows(), baseline="FBP")
    numbers = re.findall(rf"[+{MINUS}]?\d+\.?\d*", markdown)
    text = Page(report(section(panels=[]))).text
    assert len(numbers) > 25
    assert [n for n in numbers if n not in text] == []


def test_markdown_table() -> None:
    head, rule, *body = markdown_table(rows(), baseline="FBP").splitlines()
    assert head == (
        "| Method | Slices | PSNR (dB) ↑ | SSIM ↑ | NMSE ↓ | PSNR in circle (dB) ↑ | sharpness "
        "| Network calls | Seconds per slice |"
    )
    assert rule.count("---") == 9
    assert body == [
        "| FBP | 32 | 21.50 ± 1.25 | 0.400 ± 0.050 | n/a | 22.75 ± 1.50 | n/a | 0 | 0.0123 |",
        "| TV | 32 | 27.00 ± 1.00 (+5.50) | **0.700** ± 0.040 (+0.300) | 0.0300 ± 0.0020 | n/a | n/a | 0 | n/a |",
        "| DDS | 32 | **31.25** ± 2.12 (+9.75) | 0.690 ± 0.030 (+0.290) | n/a | n/a | 0.123 ± 0.045 | 20 | 0.84 |",
    ]


def test_lower_is_better_where_it_is() -> None:
    pair = [MethodRow(name, 4, 0, 1.0, {"nmse": (value, 0.0)}) for name, value in (("A", 0.5), ("B", 0.25))]
    assert "**0.2500**" in markdown_table(pair)
    assert "**0.5000**" not in markdown_table(pair)
    near = [MethodRow(name, 4, 0, 1.0, {"spread_skill": (v, 0.1)}) for name, v in (("A", 0.5), ("B", 1.1), ("C", 2.0))]
    assert re.findall(r"\*\*(.*?)\*\*", markdown_table(near)) == ["1.10"]


def test_a_pipe_does_not_break_the_markdown_table() -> None:
    (*_, line) = markdown_table([MethodRow("a|b", 1, 0, 1.0, {"psnr": (1.0, 0.0)})]).splitlines()
    assert line.startswith("| a\\|b | 1 |")


def test_lede_names_the_best_method() -> None:
    assert lede(rows(), baseline="FBP") == "Best mean PSNR 31.25 dB: DDS, +9.75 dB against FBP, over 32 slices."
    assert lede(rows()[:1], baseline="FBP") == ""
    assert lede(rows()[::-1], baseline="DDS") == "Best mean PSNR 31.25 dB: DDS, over 32 slices."


@pytest.mark.parametrize(
    ("value", "text"), [(1.005, "1.00"), (-2.5, f"{MINUS}2.50"), (-0.001, "0.00"), (math.inf, "∞"), (math.nan, "n/a")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value, 2) == text


def test_different_counts_of_slices_are_pointed_out() -> None:
    assert "different numbers of slices" not in report(section())
    mixed = [replace(rows()[0], n=31), *rows()[1:]]
    assert "different numbers of slices" in report(section(rows=mixed))


def test_images_of_a_panel_differ_as_they_should() -> None:
    page = Page(report(section()))
    names = [alt.split(",")[0] for alt, _ in page.images]
    assert names == ["Truth", "FBP", "DDS", "Error of FBP", "Error of DDS", "Spread of 8 samples"]
    truth, naive, result, naive_error, result_error, spread = (pixels(png) for _, png in page.images)
    assert truth.shape == (48, 64, 3)
    assert abs(truth - result_error).mean() > 20
    assert naive_error.max(2).mean() > 3 * result_error.max(2).mean()
    assert abs(truth - result).mean() < abs(truth - naive).mean()
    assert len(np.unique(spread.reshape(-1, 3), axis=0)) == 1


def test_the_window_maps_low_to_black_and_high_to_white() -> None:
    ramp = np.linspace(-1700, 1100, 300)[None].repeat(4, 0)
    grey = pixels(view_png(panel_views(panel(truth=ramp, naive=ramp, result=ramp, std=None))[0]))[0, :, 0]
    np.testing.assert_allclose(grey, 255 * np.clip((ramp[0] + 1000) / 1400, 0, 1), atol=2, rtol=0)


def test_errors_of_both_signs_have_their_own_colour() -> None:
    truth = np.zeros((8, 8))
    result = truth.copy()
    result[:, :4], result[:, 4:] = -100, 100
    error = pixels(view_png(panel_views(panel(truth=truth, naive=truth, result=result, std=None))[4]))
    (low, high) = error[0, 0], error[0, -1]
    assert low[2] > low[0]
    assert high[0] > high[2]
    exact = pixels(view_png(panel_views(panel(truth=truth, naive=truth, result=result, std=None))[3]))
    assert exact.max() < 20


def test_missing_values_are_shown_as_missing() -> None:
    std = np.full((48, 64), 5.0)
    std[:10] = np.nan
    picture = pixels(view_png(panel_views(panel(std=std))[5]))
    assert (picture[:10] == MISSING).all()
    assert not (picture[10:] == MISSING).all(-1).any()
    assert "mean std 5 HU" in Page(report(section(panels=[panel(std=std)]))).text


def test_no_value_at_all_still_makes_a_page() -> None:
    hollow = np.full((48, 64), np.nan)
    text = Page(report(section(panels=[panel(std=hollow, result=hollow)]))).text
    assert "mean std n/a" in text
    assert "mean |error| n/a" in text
    assert panel_png(panel(std=hollow, result=hollow))


def test_a_single_sample_has_no_spread() -> None:
    page = Page(report(section(panels=[panel(std=None)])))
    assert len(page.images) == 5
    assert "one sample only" in page.text
    assert "Spread of 8 samples" not in page.text


def test_a_spread_of_another_method_says_whose_it_is() -> None:
    page = Page(report(section(panels=[panel(spread_of="DAPS (50 calls)")])))
    assert "Spread of 8 samples of DAPS (50 calls)" in page.text


def test_empty_sections_and_reports() -> None:
    assert "no results to report yet" in Page(report()).text
    bare = Page(report(ReportSection(heading="Nothing here"))).text
    assert "No method has been scored yet." in bare
    assert "Recipe" not in bare
    assert markdown_table([]) == "No method has been scored yet.\n"
    assert "Best mean" not in Page(report(section(rows=rows()[:1]))).text


def test_large_images_are_averaged() -> None:
    image = np.random.default_rng(0).normal(size=(512, 700))
    small = shrunk(image)
    assert small.shape == (170, 233)
    assert max(small.shape) <= MAX_SIDE
    assert small[3, 5] == pytest.approx(image[9:12, 15:18].mean())
    assert shrunk(small) is small


def test_eight_panels_fit_into_three_megabytes_unless_all_is_noise() -> None:
    noise = np.random.default_rng(0).normal(size=(4, 256, 256))
    busy = panel(truth=300 * noise[0], naive=300 * noise[1], result=300 * noise[2], std=abs(noise[3]))
    assert len(report(section(panels=[busy] * 8))) < 4_500_000
    quiet = np.hypot(*np.mgrid[-1:1:256j, -1:1:256j]) > 0.7
    body = {name: np.where(quiet, -1000, getattr(busy, name)) for name in ("truth", "naive", "result")}
    body["std"] = np.where(quiet, 0.0, busy.std)
    assert len(report(section(panels=[panel(**body)] * 8))) < 3_000_000


def test_dollars_are_no_formula() -> None:
    title = r"cost $\nonsense{ $5"
    assert title in Page(report(section(panels=[panel(title=title)]))).text
    assert panel_png(panel(title=title, naive_name=title, value_label="$x_$"))


def test_panel_png_is_small_and_shows_all_columns() -> None:
    png = panel_png(panel())
    picture = pixels(png)
    assert len(png) < 100_000
    height, width, _ = picture.shape
    assert width > 4 * height
    centres = [round((i + 0.5) * width / 6) for i in range(6)]
    columns = [picture[height // 3 : height // 2, c - 8 : c + 8] for c in centres]
    assert all(abs(columns[0] - other).mean() > 5 for other in columns[3:])
    noise = np.random.default_rng(0).normal(size=(3, 320, 320)) * 500
    assert len(panel_png(panel(truth=noise[0], naive=noise[1], result=noise[2], std=abs(noise[0])))) < 100_000


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 1), (math.nan, 1), (math.inf, 1), (1.0, 1), (1.2, 1.5), (0.31, 0.5), (810, 1000)]
)
def test_nice_ceiling(value: float, expected: float) -> None:
    assert nice_ceiling(value) == pytest.approx(expected)


@pytest.mark.parametrize(("pixel_mm", "expected"), [(1.0, 10), (1.5, 20), (6.0, 100), (0.01, 0.1)])
def test_scale_bar_is_round_and_below_a_third_of_the_image(pixel_mm: float, expected: float) -> None:
    assert scale_bar_mm(panel(pixel_mm=pixel_mm)) == pytest.approx(expected)


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    (width,) = set(re.findall(r'class="length" style="width:([\d.]+)%"', report(section())))
    assert float(width) / 100 * 64 * 1.5 == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": np.zeros((2, 2))}, "one shape"),
        ({"high": -1000}, "low < high"),
        ({"pixel_mm": 0.0}, "pixel_mm > 0"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        panel(**changes)
