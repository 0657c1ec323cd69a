"""The parts of a run, each a process of its own with a time limit.

python -m benchmarks.gpu run PACKED --to RESULT --seconds 580
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.gpu import checks, rates, sampling, training
from benchmarks.gpu.results import add_row
from benchmarks.gpu.setting import Part, Setting

TRAINING = "training"
SPARE_SECONDS = 15.0
"""Of the training's limit: torch is imported, and the last validation may run over."""


class Limited(NamedTuple):
    """A part of a run, and the most seconds that it may take."""

    run: Part
    limit: float


PARTS: dict[str, Limited] = {
    "card": Limited(rates.card, 40),
    "training rates": Limited(training.rates, 100),
    "two processes": Limited(checks.ranks, 40),
    "memory": Limited(checks.memory, 30),
    "batch": Limited(sampling.batches, 40),
    "projector": Limited(rates.projector, 30),
    "presets": Limited(sampling.presets, 80),
    # It takes all that is left.
    TRAINING: Limited(training.training, 600),
}
"""In this order; the longest last, so that a run which is killed has the others."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a run is told."""
    parser.add_argument("packed", type=Path, help="the folder that pack made")
    parser.add_argument("--to", type=Path, required=True, metavar="RESULT", help="folder for what is found")
    parser.add_argument("--seconds", type=float, default=580, help="of the whole run (default: %(default)s)")
    parser.add_argument("--training", type=float, default=0, help="seconds of the training (default: what is left)")
    parser.add_argument(
        "--parts", nargs="*", default=list(PARTS), choices=list(PARTS), metavar="PART", help="default: all"
    )
    parser.add_argument("--earlier", type=Path, help="result whose training goes on")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="a little of everything, for a CPU")


def main(options: argparse.Namespace) -> None:
    """Run one part after the other; whatever becomes of one, the next follows."""
    end = time.monotonic() + options.seconds
    options.to.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        left = end - time.monotonic()
        limit = min(PARTS[name].limit, left)
        if name == TRAINING and options.training:
            limit = min(options.training + SPARE_SECONDS, left)
        row = run_part(name, limit, options) if limit > 0 else {"status": "left out, as the time was up", "seconds": 0}
        add_row(options.to, name, row)
        print(name, row, flush=True)


def run_part(name: str, limit: float, options: argparse.Namespace) -> dict[str, object]:
    """Start the process of a part and wait for it, not longer than its limit; what became of it."""
    command = [sys.executable, "-m", "benchmarks.gpu", "part", name, str(options.packed), str(options.to)]
    command += ["--seconds", str(max(limit - SPARE_SECONDS, limit / 2)), "--device", options.device]
    command += ["--small"] if options.small else []
    command += ["--earlier", str(options.earlier)] if options.earlier else []
    start, log = time.monotonic(), options.to / "errors.txt"
    with log.open("w") as errors, subprocess.Popen(command, stderr=errors, start_new_session=True) as process:
        try:
            process.wait(max(limit, 1.0))
            status = "done" if process.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "out of time"
        finally:
            end_all(process)
    row = {"status": status, "seconds": round(time.monotonic() - start, 1), "limit": round(limit, 1)}
    last = log.read_text().strip().splitlines()[-1:]
    log.unlink()
    return row | ({"error": last[0][:300]} if status == "failed" and last else {})


def end_all(process: "subprocess.Popen[bytes]") -> None:
    """End a part's process and all that it has started."""
    # It may have ended, and left nobody.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def add_part_options(parser: argparse.ArgumentParser) -> None:
    """What the process of one part is told."""
    parser.add_argument("name", choices=list(PARTS))
    parser.add_argument("packed", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--earlier", type=Path)
    parser.add_argument("--small", action="store_true")


def part(options: argparse.Namespace) -> None:
    """Become the process of one part."""
    if options.small:
        torch.set_num_threads(1)
    device = torch.device(options.device)
    setting = Setting(options.packed, options.result, device, options.small, options.seconds, options.earlier)
    for row in PARTS[options.name].run(setting):
        add_row(options.result, options.name, row)
        print(options.name, row, flush=True)
