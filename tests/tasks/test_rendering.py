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

from scoreinv.modality import Window
from tasks.people import compared
from tasks.rendering import (
    MethodRow,
    Panel,
    People,
    Picture,
    ReportSection,
    latex_table,
    markdown_table,
    panel_png,
    render_report,
    scales_of,
)
from tasks.rendering.content import CSV, PARQUET, SliceRow
from tasks.rendering.figures import MAX_SIDE, MISSING, shrunk, side_for, view_png
from tasks.rendering.persons import person_list
from tasks.rendering.tables import MINUS, flag_of, lede, number, people_lede, table_note
from tasks.rendering.views import View, columns_of, inset_of, nice_ceiling, scale_bar_mm

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


WINDOWS = (Window("usual window", -1000, 400), Window("bone", -500, 1300))


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


def test_the_page_stands_alone() -> None:
    text = report(section(people=people()))
    page = Page(text)
    loads = [load for load in page.loads if not load.startswith(("data:image/png;base64,", "#"))]
    assert loads == ["scores-1.csv", "../../scores/0a1b2c3d4e5f"]
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
        "PSNR 27.50 dB",
        "mean spread 12 HU",
        f"bone, {MINUS}500 to 1300 HU",
        "scores-1.csv",
        "pip install 'scoreinv[parquet]'",
        f"{MINUS}1000",
        "400 HU",
        "20 mm",
    ):
        assert part in text


def test_texts_of_users_are_escaped() -> None:
    evil = "<script>alert('x')</script>&\"<b>"
    scores, means = {evil: 2.0}, {evil: {evil: 1.0, "other" + evil: 2.0}}
    row = MethodRow(evil, 1, 0, 1.0, {evil: (1.0, 0.0)})
    spoiled = section(
        heading=evil,
        intro=[evil],
        rows=[row, row],
        panels=[
            panel(title=evil, value_label=evil, pictures=[replace(panel().pictures[2], method=evil, scores=scores)])
        ],
        recipe_yaml=evil,
        baseline=evil,
        people=People(
            "", {"psnr": compared(means, None)}, {"psnr": means}, "psnr", [SliceRow(evil, evil, {evil: 1.0})]
        ),
        files={evil: evil},
        stores={evil: evil},
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


def test_every_method_is_pictured_in_every_window_with_its_error() -> None:
    page = Page(report(section()))
    alts = [alt.replace(", Volume 7, slice 12", "") for alt, _ in page.images]
    in_windows = [f"{part}, {window}" for part in ("", ", enlarged") for window in ("usual window", "bone")]
    assert alts == [
        *(f"Truth{view}" for view in in_windows),
        *(f"FBP{view}" for view in in_windows),
        "Error of FBP",
        *(f"TV{view}" for view in in_windows),
        "Error of TV",
        *(f"DDS{view}" for view in in_windows),
        "Error of DDS",
        "Spread of 8 samples of DDS",
    ]
    assert {name for name, alt in re.findall(r'<img class="(\w+)" alt="(Error|Spread)', report(section()))} == {"only"}
    images = dict(zip(alts, (pixels(png) for _, png in page.images), strict=True))
    truth, errors = images["Truth, usual window"], [images[f"Error of {one}"].max(2).mean() for one in ("FBP", "DDS")]
    assert truth.shape == (48, 64, 3)
    assert images["Truth, enlarged, bone"].shape == (11, 11, 3)
    assert errors[0] > 2 * errors[1]
    assert len(np.unique(images["Spread of 8 samples of DDS"].reshape(-1, 3), axis=0)) == 1


def test_errors_of_all_slices_of_a_study_share_one_scale() -> None:
    easy, hard = (panel(pictures=pictures(panel().truth, errors)) for errors in (errors_of(1), errors_of(5)))
    together, alone = scales_of([easy, hard]), scales_of([easy])
    assert together.error == scales_of([hard]).error
    assert alone.error.high < together.error.high
    first, second = (columns_of(one, together)[3].error for one in (easy, hard))
    assert first is not None
    assert second is not None
    assert first.scale == second.scale
    assert 2 * pixels(view_png(first)).mean() < pixels(view_png(second)).mean()


def errors_of(factor: float) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(1).normal(size=(48, 64))
    return {"FBP": 20 * factor * noise, "TV": 10 * factor * noise, "DDS": 5 * factor * noise}


def test_one_method_that_fails_does_not_darken_the_others() -> None:
    sound = scales_of([panel()]).error.high
    broken = [*panel().pictures, replace(panel().pictures[1], method="broken", image=panel().truth + 1e5)]
    assert scales_of([panel(pictures=broken)]).error.high < 2 * sound


def test_the_enlarged_region_is_where_the_naive_image_errs_most() -> None:
    truth = np.zeros((50, 80))
    naive = truth.copy()
    naive[30:38, 60:68] = 50
    found = inset_of(panel(truth=truth, pictures=[Picture("FBP", naive), Picture("TV", truth + 500)]))
    assert found.side == 11
    assert 27 <= found.top <= 30
    assert 57 <= found.left <= 60
    assert found.of(naive).sum() == 50 * 64
    blind = inset_of(panel(truth=None, pictures=[Picture("FBP", naive), Picture("TV", truth)]))
    assert blind == found
    air = truth.copy()
    air[:, 45:] = -1000
    naive[5:13, 20:28] = 10
    in_body = inset_of(panel(truth=air, above_air=-900, pictures=[Picture("FBP", naive - truth + air)]))
    assert in_body.of(naive).sum() == 10 * 64, "an error in air is no reason to look there"
    air[:, 46:50], air[:10, 60:], naive[:10, 60:] = -1000, 0, 90
    beside = inset_of(panel(truth=air, above_air=-900, pictures=[Picture("FBP", naive - truth + air)]))
    assert beside == in_body, "nor is one in what lies beside the body"


def test_the_window_maps_low_to_black_and_high_to_white() -> None:
    ramp = np.linspace(-1700, 1600, 300)[None].repeat(4, 0)
    grey = picture_of(ramp)[0, :, 0]
    np.testing.assert_allclose(grey, 255 * np.clip((ramp[0] + 1000) / 1400, 0, 1), atol=2, rtol=0)
    shown = panel(truth=ramp, pictures=[Picture("FBP", ramp)])
    bone = pixels(view_png(columns_of(shown, scales_of([shown]))[0].images[1]))[0, :, 0]
    np.testing.assert_allclose(bone, 255 * np.clip((ramp[0] + 500) / 1800, 0, 1), atol=2, rtol=0)


def test_errors_of_both_signs_have_their_own_colour() -> None:
    scale = scales_of([panel()]).error
    values = np.zeros((8, 8))
    values[:, :4], values[:, 4:] = -100, 100
    error = pixels(view_png(View("", values, scale)))
    (low, high) = error[0, 0], error[0, -1]
    assert low[2] > low[0]
    assert high[0] > high[2]
    assert pixels(view_png(View("", 0 * values, scale))).max() < 20


def test_missing_values_are_shown_as_missing() -> None:
    std = np.full((48, 64), 5.0)
    std[:10] = np.nan
    shown = panel(pictures=[replace(panel().pictures[2], std=std)])
    view = columns_of(shown, scales_of([shown]))[1].spread
    assert view is not None
    picture = pixels(view_png(view))
    assert (picture[:10] == MISSING).all()
    assert not (picture[10:] == MISSING).all(-1).any()
    assert "mean spread 5 HU" in Page(report(section(panels=[shown]))).text


def test_no_value_at_all_still_makes_a_page() -> None:
    hollow = np.full((48, 64), np.nan)
    shown = panel(pictures=[Picture("FBP", hollow), Picture("DDS", hollow, std=hollow, n_samples=2)])
    text = Page(report(section(panels=[shown]))).text
    assert "mean spread n/a" in text
    assert "mean |error| n/a" in text
    assert panel_png(shown, scales_of([shown]))


def test_without_samples_there_is_no_row_of_spreads_and_without_a_truth_none_of_errors() -> None:
    plain = [replace(one, std=None) for one in panel().pictures]
    text = report(section(panels=[panel(pictures=plain)]))
    assert len(Page(text).images) == 3 * 4 + 4 + 3
    assert "Spread of" not in "".join(alt for alt, _ in Page(text).images)
    assert "--rows:4" in text
    blind = report(section(panels=[panel(truth=None)]))
    assert len(Page(blind).images) == 3 * 4 + 1
    assert "Error of" not in blind
    assert "--rows:4" in blind


def test_a_single_window_is_told_and_leaves_nothing_to_choose() -> None:
    text = report(section(panels=[panel(windows=WINDOWS[:1])]))
    page = Page(text)
    assert f"Grey values: usual window, {MINUS}1000 to 400 HU." in page.text
    assert not [name for name in re.findall(r'class="(\w*)"', text) if name in ("pick0", "w0")]


def test_a_table_tells_of_the_slices_that_its_own_metrics_leave_out() -> None:
    row = MethodRow("A", 9, 0, 1.0, {"psnr": (30.0, 1.0), "mae_lung": (40.0, 2.0)}, {"mae_lung": 4})
    assert table_note([row], "", ["psnr"]) == ""
    assert "undefined: 5 (all metrics)." in table_note([row], "", ["mae_lung"])
    assert "undefined: 5 (Error in lung)." in table_note([row], "")
    text = Page(report(section(rows=[row], panels=[]))).text
    assert text.count("the means leave out") == 1
    assert "Error in lung (HU) ↓" in text


def test_coverage_that_is_off_is_flagged_in_words_and_red() -> None:
    assert [flag_of("coverage_90", one) for one in (0.6, 0.86, 0.94, 0.99, math.nan)] == [
        "too sure", "", "", "too unsure", ""
    ]  # fmt: skip
    assert flag_of("psnr", 0.1) == ""
    bad = [MethodRow("A", 4, 8, 1.0, {"psnr": (30.0, 0.0), "coverage_90": (0.6, 0.1)})]
    text = report(section(rows=bad))
    assert re.search(
        r'<td class="flag">0\.600<span class="pm"> ± 0\.100</span><span class="gain">too sure</span>', text
    )
    assert "0.600 ± 0.100 too sure" in markdown_table(bad)
    assert '<td class="flag">' not in report(section())


def test_the_table_over_people_has_intervals_gains_and_p() -> None:
    text = Page(report(section(people=people()))).text
    one = people().compared["psnr"]["DDS"]
    assert f"[{one.mean.low:.2f}, {one.mean.high:.2f}]" in text
    assert f"+{one.gain.mean:.2f} [{number(one.gain.low, 2)}, {number(one.gain.high, 2)}], p = {one.p:.2g}" in text
    assert "difference to TV with its interval" in text
    assert people_lede(people()).startswith("Best mean PSNR 33.00 dB [")
    assert re.search(r"DDS; against TV \+2\.50 \[.*\], p = 0\.\d+; 8 people\.$", people_lede(people()))
    assert "Five people or fewer" not in text
    few = {method: dict(list(one.items())[:5]) for method, one in people().means["psnr"].items()}
    five = people(compared={"psnr": compared(few, "TV")}, means={"psnr": few}, slices=[])
    assert "Five people or fewer" in Page(report(section(people=five))).text
    assert "p = " not in people_lede(five)


def test_people_stand_where_each_order_wants_them_and_unfold_to_their_slices() -> None:
    listed = person_list(people())
    assert listed.heads == ["FBP", "TV", "DDS", f"DDS {MINUS} TV"]
    assert [row.name for row in listed.rows] == [f"p{i}" for i in range(8)]
    assert listed.rows[5].texts == ["25.00", "34.00", "33.00", f"{MINUS}1.00"]
    by_gain = sorted(listed.rows, key=lambda row: row.ranks[4])
    assert by_gain[0].name == "p5"
    assert [row.ranks[1] for row in listed.rows] == list(range(8))
    assert all(sorted(row.ranks[k] for row in listed.rows) == list(range(8)) for k in range(5))
    assert [len(row.slices) for row in listed.rows] == [2] * 7 + [1]
    page = Page(report(section(people=people())))
    assert sum(style.startswith("--r0:") for style in page.styles) == 8
    text = report(section(people=people()))
    assert all(f"#s1by{k}:checked ~ .rows > details {{ order: var(--r{k}); }}" in text for k in range(5))


def test_of_very_many_people_those_who_fare_worst_are_on_the_page() -> None:
    means = {"TV": {f"p{i:03}": 20.0 for i in range(120)}, "DDS": {f"p{i:03}": 20.0 + i for i in range(120)}}
    many = People("TV", {"psnr": compared(means, "TV")}, {"psnr": means}, "psnr")
    listed = person_list(many)
    assert (len(listed.rows), listed.n_more) == (100, 20)
    assert listed.rows[-1].name == "p099"


def test_box_plots_show_every_metric_that_people_have() -> None:
    shown = Page(report(section(people=people(), panels=[]))).images
    ((alt, png),) = shown
    assert alt.startswith("PSNR (dB) ↑")
    assert pixels(png).min() < 100
    low = people(means={"psnr": {m: dict(list(one.items())[:3]) for m, one in people().means["psnr"].items()}})
    (_, points) = Page(report(section(people=low, panels=[]))).images[0]
    blue = [np.all(abs(pixels(one) - (31, 95, 191)) < 40, axis=2).sum() for one in (png, points)]
    assert blue[0] > 100 > blue[1], "a box only of five people or more"


def test_exact_images_make_a_page() -> None:
    means = {"TV": {"ann": 30.0, "bob": 31.0}, "exact": {"ann": math.inf, "bob": math.inf}}
    exact = People("TV", {"psnr": compared(means, "TV")}, {"psnr": means}, "psnr")
    text = Page(report(section(people=exact))).text
    assert "∞ [∞, ∞]" in text
    assert "nan" not in text
    assert not people_lede(exact).count(";") > 1


def test_the_latex_table_is_escaped_and_holds_what_the_page_says() -> None:
    named = [replace(one, method=f"{one.method}_50% & more") for one in rows()]
    text = latex_table(section(rows=named, heading="CT_1"))
    assert r"FBP\_50\% \& more & 32 & 21.50 $\pm$ 1.25 & 0.400" in text
    assert r"\textbf{31.25} $\pm$ 2.12" in text
    assert r"\caption{CT\_1." in text
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count(" & ") for line in lines} == {lines[0].count(" & ")}
    over = latex_table(section(people=people()))
    assert r"\textbf{33.00} [" in over
    assert r"{\scriptsize +2.50 [" in over
    assert "No method" in latex_table(section(rows=[]))


def test_a_page_with_parquet_does_not_say_how_to_get_it() -> None:
    assert "scoreinv[parquet]" not in report(section(files={CSV: "scores-1.csv", PARQUET: "scores-1.parquet"}))


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


def test_a_page_of_many_pictures_shows_them_smaller() -> None:
    assert side_for(10) == side_for(250) == MAX_SIDE
    assert side_for(1000) == MAX_SIDE // 2
    assert side_for(100_000) == 120
    noise = np.random.default_rng(0).normal(size=(256, 256))
    busy = panel(truth=300 * noise, pictures=[Picture(f"method {i}", 200 * noise) for i in range(8)])
    assert len(report(section(panels=[busy] * 2))) < 6_500_000
    assert len(report(section(panels=[busy] * 16))) < 10_000_000


def test_dollars_are_no_formula() -> None:
    title = r"cost $\nonsense{ $5"
    shown = panel(title=title, value_label="$x_$", pictures=[replace(one, method=title) for one in panel().pictures])
    assert title in Page(report(section(panels=[shown]))).text
    assert panel_png(shown, scales_of([shown]))


def test_panel_png_is_small_and_shows_the_naive_and_the_best_methods() -> None:
    shown = panel()
    png = panel_png(shown, scales_of([shown]))
    height, width, _ = pixels(png).shape
    assert len(png) < 100_000
    assert width / height == pytest.approx(7.44 / 5.0, rel=0.05)
    noise = np.random.default_rng(0).normal(size=(160, 160)) * 500
    many = [Picture(f"method {i}", i * noise, scores={"psnr": 20.0 + i}) for i in range(12)]
    crowd = panel(truth=noise, pictures=many)
    png = panel_png(crowd, scales_of([crowd]))
    assert len(png) < 150_000
    assert pixels(png).shape[1] < 1500


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
        ({"pictures": [Picture("FBP", np.zeros((2, 2)))]}, "one shape"),
        ({"pictures": []}, "one shape"),
        ({"windows": [Window("flat", 1, 1)]}, "low < high"),
        ({"windows": []}, "low < high"),
        ({"pixel_mm": 0.0}, "pixel_mm > 0"),
    ],
)
def test_a_panel_that_cannot_be_drawn_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        panel(**changes)
