"""Numbers as text: the same cells for the page and for Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from scoreinv.modality import MODALITIES
from tasks.people import Compared, OverPeople
from tasks.rendering.content import MethodRow, People

Direction = Literal["high", "low", "near 1", "none"]
ARROWS: Mapping[Direction, str] = {"high": " ↑", "low": " ↓", "near 1": " → 1", "none": ""}
MINUS = "\N{MINUS SIGN}"


Group = Literal["main", "Tissue and small structures", "Uncertainty", "As others report it"]
"""The tables of a page: the main one, and those that unfold."""


@dataclass(frozen=True)
class Metric:
    """How a metric is written, which way is better, and in which table of the page it stands."""

    label: str
    unit: str = ""
    digits: int = 3
    better: Direction = "none"
    group: Group = "main"

    @property
    def heading(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}{ARROWS[self.better]}"


TISSUE, UNCERTAINTY, PUBLISHED = get_args(Group)[1:]

METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR", "dB", 2, "high"),
    "ssim": Metric("SSIM", "", 3, "high"),
    "nmse": Metric("NMSE", "", 4, "low", PUBLISHED),
    "small_contrast_low": Metric("Small structures, worst tenth", "", 2, "near 1"),
    "small_invented": Metric("Structures invented", "", 3, "low"),
    "unexplained": Metric("Structures unexplained", "", 2, "low"),
    "coverage_90": Metric("Coverage of 90 %", "", 3),
    "coverage_80": Metric("Coverage of 80 %", "", 3, "none", UNCERTAINTY),
    "coverage_95": Metric("Coverage of 95 %", "", 3, "none", UNCERTAINTY),
    "half_width": Metric("Half width of 90 %", "", 4, "none", UNCERTAINTY),
    "psnr_expected": Metric("PSNR by views left out", "dB", 2, "high", UNCERTAINTY),
    "interval_scale": Metric("Intervals, times as wide", "", 2, "none", UNCERTAINTY),
    "data_residual": Metric("Data residual", "", 2, "near 1"),
    **{
        f"mae_{one.key}": Metric(f"Error in {one.name}", traits.label, 1, "low", TISSUE)
        for traits in MODALITIES.values()
        for one in traits.classes
    },
    "small_contrast": Metric("Small structures, median", "", 2, "near 1", TISSUE),
    "spread_skill": Metric("Spread / error", "", 2, "near 1", UNCERTAINTY),
    "spread": Metric("Spread", "", 4, "none", UNCERTAINTY),
    "psnr_volume": Metric("PSNR of volume's range", "dB", 2, "high", PUBLISHED),
    "scale_error": Metric("Scale error", "dB", 2, "none", PUBLISHED),
    "psnr_circle": Metric("PSNR in circle", "dB", 2, "high", PUBLISHED),
    "ssim_circle": Metric("SSIM in circle", "", 3, "high", PUBLISHED),
    "psnr_circle_peaks": Metric("PSNR, peaks matched", "dB", 2, "high", PUBLISHED),
    "ssim_circle_peaks": Metric("SSIM, peaks matched", "", 3, "high", PUBLISHED),
}

N_FOR_P = 6
"""People below which no two-sided signed-rank test comes below 0.05."""

COVERAGE_SLACK = 0.05
"""How far a coverage may be from what it promises without being flagged."""


class Cell(NamedTuple):
    """One metric of one method, written out; empty strings where there is nothing to say.

    ``flag`` says in words what is wrong with an uncertainty.
    """

    mean: str
    spread: str
    gain: str
    is_best: bool
    flag: str = ""


class Line(NamedTuple):
    """One method's line of a table: over how many slices or people, its cells, and what it costs, if that is told.

    ``flag`` says in words what is wrong with the method.
    """

    method: str
    n: int
    cells: Sequence[Cell]
    costs: Sequence[str] = ()
    flag: str = ""


def metric_of(name: str) -> Metric:
    """How to write a metric; a name that is not known is written as it is."""
    return METRICS.get(name, Metric(name))


def number(value: float, digits: int) -> str:
    """A number with a fixed count of decimals and a true minus sign; infinity and missing values as words."""
    if math.isnan(value):
        return "n/a"
    text = "∞" if math.isinf(value) else f"{abs(value):.{digits}f}"
    return f"{MINUS}{text}" if value < 0 and text.strip("0.") else text


def score_text(name: str, value: float) -> str:
    """Such as ``PSNR 31.20 dB``."""
    metric = metric_of(name)
    return " ".join(filter(None, (metric.label, number(value, metric.digits), metric.unit)))


def metric_names(rows: Sequence[MethodRow]) -> list[str]:
    """All metrics of the rows: the known ones in their usual order, then the others as they come."""
    found = dict.fromkeys(name for row in rows for name in row.metrics)
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def grouped_metrics(rows: Sequence[MethodRow]) -> dict[str, list[str]]:
    """The metrics of each table, the main one first; without a truth all are in that."""
    names = metric_names(rows)
    if "psnr" not in names:
        return {"main": names}
    groups = {group: [name for name in names if metric_of(name).group == group] for group in get_args(Group)}
    return {group: members for group, members in groups.items() if members or group == "main"}


def cells(rows: Sequence[MethodRow], name: str, baseline: str) -> list[Cell]:
    """One column of the table over slices."""
    metric = metric_of(name)
    means = [row.metrics.get(name, (math.nan, math.nan))[0] for row in rows]
    best, reference = _best(means, metric), _mean_of(rows, name, baseline)
    column = []
    for row, mean in zip(rows, means, strict=True):
        text, std = number(mean, metric.digits), row.metrics.get(name, (math.nan, math.nan))[1]
        has_gain = row.method != baseline and metric.better in ("high", "low")
        gain = signed(mean - reference, metric.digits) if has_gain else ""
        spread = "" if math.isnan(std) else f"± {number(std, metric.digits)}"
        column.append(Cell(text, spread, gain, text == best, flag_of(name, mean)))
    return column


def table_lines(rows: Sequence[MethodRow], names: Sequence[str], baseline: str) -> list[Line]:
    """The lines of the table of these metrics over slices."""
    columns = [cells(rows, name, baseline) for name in names]
    return [
        Line(row.method, row.n, [column[i] for column in columns], costs(row), failed_text(row))
        for i, row in enumerate(rows)
    ]


def failed_text(row: MethodRow) -> str:
    """Such as "2 failed"; empty if none did."""
    return f"{row.n_failed} failed" if row.n_failed else ""


def people_names(people: People, names: Sequence[str]) -> list[str]:
    """Those of the metrics that the table over people has."""
    return [name for name in names if people.compared.get(name)]


def people_lines(people: People, names: Sequence[str], rows: Sequence[MethodRow] = ()) -> list[Line]:
    """The lines of the table of these metrics over people, with the costs of the methods that are among the rows."""
    known = {row.method: (costs(row), failed_text(row)) for row in rows}
    columns = [people_cells(people.compared[name], name, people.compared[people.listed]) for name in names]
    nothing = Cell("n/a", "", "", False)
    return [
        Line(method, one.mean.n, [column.get(method, nothing) for column in columns], *known.get(method, ((), "")))
        for method, one in people.compared[people.listed].items()
    ]


def people_cells(
    compared: Mapping[str, Compared], name: str, listed: Mapping[str, Compared] | None = None
) -> dict[str, Cell]:
    """One column of the table over people, by method: mean and interval, gain with its interval and p.

    Args:
        compared: the methods.
        name: of the metric.
        listed: those of the metric whose people are counted in the table; a cell says where its own are fewer.
    """
    best, whole = _best([one.mean.mean for one in compared.values()], metric_of(name)), listed or compared
    return {
        method: _people_cell(one, name, best, whole[method].mean.n if method in whole else one.mean.n)
        for method, one in compared.items()
    }


def _people_cell(one: Compared, name: str, best: str, n_whole: int) -> Cell:
    metric = metric_of(name)
    mean, spread = number(one.mean.mean, metric.digits), interval_text(one.mean, metric.digits)
    fewer = f"of {one.mean.n}" if one.mean.n < n_whole else ""
    return Cell(
        mean,
        " ".join(filter(None, (spread, fewer))),
        _gain_text(one, metric),
        mean == best,
        flag_of(name, one.mean.mean),
    )


def _gain_text(one: Compared, metric: Metric, *, has_p: bool = True) -> str:
    """Such as "+2.50 [1.10, 3.00], p = 0.012"."""
    if one.gain is None or not math.isfinite(one.gain.mean) or metric.better not in ("high", "low"):
        return ""
    gain = " ".join((signed(one.gain.mean, metric.digits), interval_text(one.gain, metric.digits)))
    return ", ".join(filter(None, (gain.strip(), p_text(one.p) if has_p else "")))


def interval_text(one: OverPeople, digits: int) -> str:
    """Such as "[30.25, 32.64]"; empty of one person."""
    return "" if math.isnan(one.low) else f"[{number(one.low, digits)}, {number(one.high, digits)}]"


def p_text(p: float) -> str:
    """Such as "p = 0.012"."""
    return "" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def flag_of(name: str, value: float) -> str:
    """What is wrong with structures that the data tell of and images lack, or with a coverage that is far from what it
    promises; empty if nothing."""
    if name == "unexplained" and value > 0:
        return "data tell of more"
    promised = float(name.removeprefix("coverage_")) / 100 if name.startswith("coverage_") else math.nan
    if not abs(value - promised) > COVERAGE_SLACK:
        return ""
    return "too sure" if value < promised else "too unsure"


def table_note(rows: Sequence[MethodRow], baseline: str, names: Sequence[str] = ()) -> str:
    """What a reader of the table of these metrics (all of them, if none are named) should know; empty if nothing."""
    notes = []
    if any(row.method == baseline for row in rows) and len(rows) > 1:
        notes.append(f"Mean ± standard deviation over slices; below it, the difference to {baseline}.")
    if len({row.n for row in rows}) > 1:
        notes.append("The methods were scored on different numbers of slices: compare with care.")
    return " ".join([*notes, *filter(None, [left_out_note(rows, names)])])


def left_out_note(rows: Sequence[MethodRow], names: Sequence[str] = ()) -> str:
    """How many slices the means of these metrics leave out, in one sentence; empty if none."""
    most = {name: max(row.n - row.counts.get(name, row.n) for row in rows) for name in names or metric_names(rows)}
    if not any(most.values()):
        return ""
    counts = sorted({n for n in most.values() if n})
    by_count = {n: [metric_of(name).label for name, count in most.items() if count == n] for n in counts}
    texts = [f"{n} ({'all metrics' if len(found) == len(most) else ', '.join(found)})" for n, found in by_count.items()]
    return (
        f"Of the {max(row.n for row in rows)} slices the means leave out, for all methods alike, those that are empty, "
        "those that a method failed on, and those where a metric is infinite (an exact image) or undefined: "
        f"{'; '.join(texts)}."
    )


def costs(row: MethodRow) -> tuple[str, str]:
    """Network calls and seconds of one slice."""
    seconds = row.seconds_per_slice
    if seconds is None or math.isnan(seconds):
        return f"{row.nfe}", "n/a"
    return f"{row.nfe}", f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def markdown_table(rows: Sequence[MethodRow], *, baseline: str = "") -> str:
    """A Markdown table, mean ± standard deviation over slices, best in bold, difference to the baseline in brackets.

    Below it stands what the means leave out.
    """
    if not rows:
        return "No method has been scored yet.\n"
    names = metric_names(rows)
    head = ["Method", "Slices", *(metric_of(name).heading for name in names), "Network calls", "Seconds per slice"]
    lines = [_markdown_line(head), _markdown_line(["---", *["---:"] * (len(head) - 1)])]
    for line in table_lines(rows, names, baseline):
        n = ", ".join(filter(None, (f"{line.n}", line.flag)))
        lines.append(_markdown_line([line.method, n, *map(_markdown_cell, line.cells), *line.costs]))
    note = left_out_note(rows)
    return "\n".join([*lines, *(["", note] if note else [])]) + "\n"


def lede(rows: Sequence[MethodRow], *, baseline: str = "") -> str:
    """The result in one sentence; empty if there is nothing to compare."""
    names = metric_names(rows)
    if len(rows) < 2 or not names:
        return ""
    name, column = names[0], cells(rows, names[0], baseline)
    winners = [i for i, cell in enumerate(column) if cell.is_best]
    if not winners:
        return ""
    row, cell, metric = rows[winners[0]], column[winners[0]], metric_of(name)
    if metric.better == "near 1":
        # Whoever explains the data best has not found the best image.
        return ""
    n = row.counts.get(name, row.n)
    gain = f", {cell.gain} {metric.unit}".rstrip() + f" against {baseline}" if cell.gain else ""
    return f"Best mean {score_text(name, row.metrics[name][0])}: {row.method}{gain}, over {n} slices."


def people_note(people: People) -> str:
    """What a reader of the table over people should know."""
    n, text = len(people.names), "Mean of people's means, each over the slices of one person, with 95 % intervals"
    text += " (bootstrap over people, bias-corrected and accelerated)."
    if not people.reference:
        return text
    text += f" Below it, the difference to {people.reference} with its interval and p"
    text += " (signed-rank test, two-sided, Holm's correction for the methods of a column)."
    return text + (
        " Five people or fewer cannot give p < 0.05, and their intervals are too narrow." if n < N_FOR_P else ""
    )


def people_lede(people: People) -> str:
    """The result over people in one sentence; empty if there is nothing to compare."""
    compared, metric = people.compared[people.listed], metric_of(people.listed)
    found = people_cells(compared, people.listed)
    winner = next((method for method, cell in found.items() if cell.is_best), "")
    if not winner or metric.better == "near 1":
        return ""
    cell, one, unit = found[winner], compared[winner], f" {metric.unit}" if metric.unit else ""
    gain = _gain_text(one, metric, has_p=one.mean.n >= N_FOR_P)
    told = f"; against {people.reference} {gain}" if gain else ""
    return f"Best mean {metric.label} {cell.mean}{unit} {cell.spread}: {winner}{told}; {one.mean.n} people."


def _best(means: Sequence[float], metric: Metric) -> str:
    known = [mean for mean in means if not math.isnan(mean)]
    if len(known) < 2 or metric.better == "none":
        return ""
    keys = {"high": lambda m: -m, "low": lambda m: m, "near 1": lambda m: abs(m - 1)}
    return number(min(known, key=keys[metric.better]), metric.digits)


def _mean_of(rows: Sequence[MethodRow], name: str, method: str) -> float:
    return next((row.metrics[name][0] for row in rows if row.method == method and name in row.metrics), math.nan)


def signed(value: float, digits: int) -> str:
    """A difference with its sign; empty where it is no number."""
    if not math.isfinite(value):
        return ""
    text = number(value, digits)
    return text if text.startswith(MINUS) else f"+{text}"


def _markdown_line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


def _markdown_cell(cell: Cell) -> str:
    mean = f"**{cell.mean}**" if cell.is_best else cell.mean
    spread, flag = (f" {text}" if text else "" for text in (cell.spread, cell.flag))
    return mean + spread + flag + (f" ({cell.gain})" if cell.gain else "")
