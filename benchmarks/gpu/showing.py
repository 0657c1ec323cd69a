"""benchmarks/results/gpu.md of a run: what the card did, part by part, or that nothing was measured yet.

python -m benchmarks.gpu show RESULT
python -m benchmarks.gpu show
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import rows_of

RESULTS = Path(__file__).parents[1] / "results" / "gpu.md"
HEAD = "# A GPU\n"
NOTHING = """Not measured: no machine with a GPU was at hand. Tests run the whole of it in small on a CPU, which tells
nothing of speed. The commands that measure it are in `benchmarks/gpu/__init__.py`; `show` replaces this page with what
they found.
"""
HIDDEN = ("part", "sigmas", "rmse_by_half_life")
"""What a table leaves to results.jsonl."""
TITLES = {
    "card": "The card",
    "training rates": "Training, images a second",
    "two processes": "Two processes on one device, joined by gloo, against one",
    "memory": "A batch that does not fit",
    "batch": "The same images in a batch and alone",
    "projector": "The projector of CT as CSR, milliseconds an image",
    "presets": "Presets, slices a second",
    "training": "A training",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of which result."""
    parser.add_argument("result", type=Path, nargs="?", help="folder of a run; none: the page says so")
    parser.add_argument("--to", type=Path, default=RESULTS, help="default: %(default)s")


def main(options: argparse.Namespace) -> None:
    """Write the page."""
    options.to.write_text(page(rows_of(options.result) if options.result else []))


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The page of a run's rows."""
    if not rows:
        return f"{HEAD}\n{NOTHING}"
    name = next((str(row["device"]) for row in rows if "device" in row), "unknown device")
    lines = [HEAD, f"Measured on: {name}. Written by `python -m benchmarks.gpu show`.\n"]
    for part, title in TITLES.items():
        mine = [row for row in rows if row["part"] == part]
        if mine:
            lines += [f"## {title}\n", *_outcome(mine), *_tables(mine)]
    return "\n".join(lines)


def _outcome(rows: Iterable[dict[str, Any]]) -> list[str]:
    """What became of the part, if it was not done."""
    ended = [row for row in rows if "status" in row]
    if not ended:
        return ["The run was ended before this part was.\n"]
    last = ended[-1]
    why = f" ({last['error']})" if "error" in last else ""
    return [] if last["status"] == "done" else [f"After {last['seconds']} s this part was: {last['status']}{why}.\n"]


def _tables(rows: Iterable[dict[str, Any]]) -> list[str]:
    """One table for each set of columns, in the order in which they came."""
    kinds = dict[tuple[str, ...], list[dict[str, Any]]]()
    for row in rows:
        if "status" not in row:
            kinds.setdefault(tuple(name for name in row if name not in HIDDEN), []).append(row)
    lines = []
    for names, mine in kinds.items():
        lines += ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "| " + " --- |" * len(names)]
        lines += ["| " + " | ".join(_cell(row[name]) for name in names) + " |" for row in mine]
        lines.append("")
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_cell(one)}" for name, one in value.items())
    if isinstance(value, list):
        return " ".join(_cell(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
