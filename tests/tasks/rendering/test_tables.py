"""Tables and statistics of a report: what a reader sees is what went in."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.people import compared
from tasks.rendering import (
    MethodRow,
    People,
    latex_table,
    markdown_table,
)
from tasks.rendering.persons import person_list
from tasks.rendering.tables import MINUS, flag_of, lede, number, people_lede, table_note
from tests.tasks.rendering.pages import Page, people, pixels, report, rows, section


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
