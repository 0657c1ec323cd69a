"""The table of a section for a paper, as LaTeX (booktabs)."""

from collections.abc import Iterable

from tasks.rendering.content import ReportSection
from tasks.rendering.tables import (
    MINUS,
    Line,
    grouped_metrics,
    metric_of,
    people_lines,
    people_names,
    people_note,
    table_lines,
    table_note,
)

ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    MINUS: "$-$", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "∞": r"$\infty$",
}  # fmt: skip

HEAD = "% needs \\usepackage{booktabs}"


def latex_table(section: ReportSection) -> str:
    """The main metrics, over people if there are several, else over slices; the best mean is bold."""
    if not section.rows:
        return f"{HEAD}\n% No method has been scored yet.\n"
    names = grouped_metrics(section.rows)["main"]
    if section.people and (known := people_names(section.people, names)):
        names = known
        lines, what, note = people_lines(section.people, names), "People", people_note(section.people)
    else:
        lines, what = table_lines(section.rows, names, section.baseline), "Slices"
        note = table_note(section.rows, section.baseline, names)
    head = ["Method", what, *(metric_of(name).heading for name in names)]
    body = [row for line in lines for row in _rows(line)]
    caption = escaped(" ".join(filter(None, (f"{section.heading}.", note))))
    return "\n".join(
        [
            HEAD,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            _row(map(escaped, head)),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def _rows(line: Line) -> list[str]:
    """A method's means with their spreads, and below them, if there are any, the differences to the reference."""
    first = [escaped(line.method), f"{line.n}"]
    for cell in line.cells:
        mean = escaped(cell.mean)
        first.append(" ".join(filter(None, (rf"\textbf{{{mean}}}" if cell.is_best else mean, escaped(cell.spread)))))
    if not any(cell.gain for cell in line.cells):
        return [_row(first)]
    small = [rf"{{\scriptsize {escaped(cell.gain)}}}" if cell.gain else "" for cell in line.cells]
    return [_row(first), _row(["", "", *small])]


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
