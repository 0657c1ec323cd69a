"""Numbers as text: the same cells for the page and for Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tasks.rendering.content import MethodRow

Direction = Literal["high", "low", "near 1", "none"]
ARROWS: Mapping[Direction, str] = {"high": " ↑", "low": " ↓", "near 1": " → 1", "none": ""}
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Metric:
    """How a metric is written, which way is better, and whether the main table leaves it to the next one."""

    label: str
    unit: str = ""
    digits: int = 3
    better: Direction = "none"
    is_detail: bool = False

    @property
    def heading(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit}{ARROWS[self.better]}"


METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR", "dB", 2, "high"),
    "psnr_volume": Metric("PSNR of volume's range", "dB", 2, "high"),
    "ssim": Metric("SSIM", "", 3, "high"),
    "nmse": Metric("NMSE", "", 4, "low"),
    "spread_skill": Metric("Spread / error", "", 2, "near 1", is_detail=True),
    "coverage_90": Metric("Coverage of 90 %", "", 3),
    "data_residual": Metric("Data residual", "", 2, "near 1"),
    "spread": Metric("Spread", "", 4, is_detail=True),
    "scale_error": Metric("Scale error", "dB", 2, is_detail=True),
    "psnr_circle": Metric("PSNR in circle", "dB", 2, "high", is_detail=True),
    "ssim_circle": Metric("SSIM in circle", "", 3, "high", is_detail=True),
    "psnr_circle_peaks": Metric("PSNR, peaks matched", "dB", 2, "high", is_detail=True),
    "ssim_circle_peaks": Metric("SSIM, peaks matched", "", 3, "high", is_detail=True),
}


class Cell(NamedTuple):
    """One metric of one method, written out; empty strings where there is nothing to say."""

    mean: str
    std: str
    gain: str
    is_best: bool


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


def split_metrics(rows: Sequence[MethodRow]) -> tuple[list[str], list[str]]:
    """The metrics of the main table, and those of the table of details; without a truth all are in the first."""
    names = metric_names(rows)
    if "psnr" not in names:
        return names, []
    return [n for n in names if not metric_of(n).is_detail], [n for n in names if metric_of(n).is_detail]


def cells(rows: Sequence[MethodRow], name: str, baseline: str) -> list[Cell]:
    """One column of the table."""
    metric = metric_of(name)
    means = [row.metrics.get(name, (math.nan, math.nan))[0] for row in rows]
    best, reference = _best(means, metric), _mean_of(rows, name, baseline)
    column = []
    for row, mean in zip(rows, means, strict=True):
        text, std = number(mean, metric.digits), row.metrics.get(name, (math.nan, math.nan))[1]
        has_gain = row.method != baseline and metric.better in ("high", "low")
        gain = _signed(mean - reference, metric.digits) if has_gain else ""
        column.append(Cell(text, "" if math.isnan(std) else number(std, metric.digits), gain, text == best))
    return column


def table_cells(rows: Sequence[MethodRow], names: Sequence[str], baseline: str) -> list[tuple[MethodRow, list[Cell]]]:
    """The lines of the table of these metrics."""
    columns = [cells(rows, name, baseline) for name in names]
    return [(row, [column[i] for column in columns]) for i, row in enumerate(rows)]


def table_note(rows: Sequence[MethodRow], baseline: str) -> str:
    """What a reader of the table should know; empty if nothing."""
    notes = []
    if any(row.method == baseline for row in rows) and len(rows) > 1:
        notes.append(f"Mean ± standard deviation over slices; below it, the difference to {baseline}.")
    if len({row.n for row in rows}) > 1:
        notes.append("The methods were scored on different numbers of slices: compare with care.")
    return " ".join([*notes, *filter(None, [left_out_note(rows)])])


def left_out_note(rows: Sequence[MethodRow]) -> str:
    """How many slices the means leave out, in one sentence; empty if none."""
    most = {name: max(row.n - row.counts.get(name, row.n) for row in rows) for name in metric_names(rows)}
    if not any(most.values()):
        return ""
    counts = sorted({n for n in most.values() if n})
    by_count = {n: [metric_of(name).label for name, count in most.items() if count == n] for n in counts}
    texts = [f"{n} ({'all metrics' if len(names) == len(most) else ', '.join(names)})" for n, names in by_count.items()]
    return (
        f"Of the {max(row.n for row in rows)} slices the means leave out, for all methods alike, those that are empty "
        f"and those where a metric is infinite (an exact image) or undefined: {'; '.join(texts)}."
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
    for row, row_cells in table_cells(rows, names, baseline):
        lines.append(_markdown_line([row.method, f"{row.n}", *map(_markdown_cell, row_cells), *costs(row)]))
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


def _best(means: Sequence[float], metric: Metric) -> str:
    known = [mean for mean in means if not math.isnan(mean)]
    if len(known) < 2 or metric.better == "none":
        return ""
    keys = {"high": lambda m: -m, "low": lambda m: m, "near 1": lambda m: abs(m - 1)}
    return number(min(known, key=keys[metric.better]), metric.digits)


def _mean_of(rows: Sequence[MethodRow], name: str, method: str) -> float:
    return next((row.metrics[name][0] for row in rows if row.method == method and name in row.metrics), math.nan)


def _signed(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return ""
    text = number(value, digits)
    return text if text.startswith(MINUS) else f"+{text}"


def _markdown_line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


def _markdown_cell(cell: Cell) -> str:
    mean = f"**{cell.mean}**" if cell.is_best else cell.mean
    spread = f" ± {cell.std}" if cell.std else ""
    return mean + spread + (f" ({cell.gain})" if cell.gain else "")
