"""The page of a report: what a reader sees is what went in."""

import math
import re
from dataclasses import replace

from tasks.people import compared
from tasks.rendering import (
    MethodRow,
    People,
    ReportSection,
    markdown_table,
    panel_png,
    render_report,
    scales_of,
)
from tasks.rendering.content import CSV, PARQUET, SliceRow
from tasks.rendering.tables import MINUS, people_lede
from tests.tasks.rendering.pages import Page, panel, people, pixels, report, rows, section


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


def test_exact_images_make_a_page() -> None:
    means = {"TV": {"ann": 30.0, "bob": 31.0}, "exact": {"ann": math.inf, "bob": math.inf}}
    exact = People("TV", {"psnr": compared(means, "TV")}, {"psnr": means}, "psnr")
    text = Page(report(section(people=exact))).text
    assert "∞ [∞, ∞]" in text
    assert "nan" not in text
    assert not people_lede(exact).count(";") > 1


def test_a_page_with_parquet_does_not_say_how_to_get_it() -> None:
    assert "scoreinv[parquet]" not in report(section(files={CSV: "scores-1.csv", PARQUET: "scores-1.parquet"}))


def test_empty_sections_and_reports() -> None:
    assert "no results to report yet" in Page(report()).text
    bare = Page(report(ReportSection(heading="Nothing here"))).text
    assert "No method has been scored yet." in bare
    assert "Recipe" not in bare
    assert markdown_table([]) == "No method has been scored yet.\n"
    assert "Best mean" not in Page(report(section(rows=rows()[:1]))).text


def test_dollars_are_no_formula() -> None:
    title = r"cost $\nonsense{ $5"
    shown = panel(title=title, value_label="$x_$", pictures=[replace(one, method=title) for one in panel().pictures])
    assert title in Page(report(section(panels=[shown]))).text
    assert panel_png(shown, scales_of([shown]))


def with_coverage(*levels: int) -> str:
    """A page of eight people whose intervals of these levels held a little less often than promised."""
    held = {f"coverage_{level}": {"DDS": {f"p{i}": level / 100 - 0.01 * i for i in range(8)}} for level in levels}
    plain = people()
    means = {**plain.means, **held}
    tables = {**plain.compared, **{name: compared(one, None) for name, one in held.items()}}
    metrics = {"psnr": (31.0, 1.0), **dict.fromkeys(held, (0.8, 0.05))}
    ours = replace(plain, means=means, compared=tables)
    return report(section(people=ours, rows=[MethodRow("DDS", 16, 20, 1.0, metrics)]))


def test_intervals_of_several_levels_are_drawn_over_what_they_promised() -> None:
    alt = "How often intervals held over how often they promised to"
    pictures = dict(Page(with_coverage(80, 90, 95)).images)
    assert pixels(pictures[alt]).std() > 1
    assert alt not in dict(Page(with_coverage(90)).images)
