"""The command: rounds of all kinds, kept one line each, and the table of them.

python -m benchmarks.chaos --rounds 20 --seed 0
python -m benchmarks.chaos --rounds 20 --seed 0 --only kill race damage
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.chaos import __doc__ as about
from benchmarks.chaos.bench import Bench
from benchmarks.chaos.kinds import CHEAP, COSTLY, KINDS, put_short_table
from benchmarks.chaos.rounds import FOUND, HEAD, Round, bad_counts, read_rounds, table

KEPT, TABLE = Path("benchmarks/results/chaos.jsonl"), Path("benchmarks/results/chaos.md")

DOCUMENT = Path("docs/operations.md")

COSTS = 10
"""Of kinds whose rounds start whole programs there are so many times fewer."""


def main() -> None:
    """Run the rounds that are not kept yet, and write the table; exit code 1 if any was not as it is to be."""
    options, n_bad = _options(), 0
    kept, end = read_rounds(options.keep), time.monotonic() + 60 * options.minutes
    known = {(one.kind, one.seed, one.number) for one in kept}
    # In memory where there is such a place: a disk's fsync takes longer than the rest.
    memory = next((place for place in ("/dev/shm",) if os.access(place, os.W_OK)), None)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=memory) as folder, options.keep.open("a") as file:
        wanted = [one for one in _wanted(options) if (one[0], options.seed, one[1]) not in known]
        for one in _rounds(Path(folder), wanted, options.seed, end):
            kept.append(one)
            n_bad += bool(bad_counts(one))
            file.write(one.model_dump_json() + "\n")
            file.flush()
            said = "".join(f"\n    {text}" for text in (*one.program_faults, *one.details))
            print(one.kind, one.number, one.faults, f"{one.seconds:.1f} s", bad_counts(one) or "", said, flush=True)
    print(table(kept))
    options.table.write_text(f"{HEAD}\n{table(kept)}\n\n{FOUND}")
    if options.keep == KEPT:
        put_short_table(DOCUMENT, kept)
    sys.exit(1 if n_bad else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=0, help="of each cheap kind, a tenth of the others; kept ones are not run again"
    )
    parser.add_argument("--seed", type=int, default=0, help="what the faults of a round follow from, with its number")
    parser.add_argument("--only", nargs="*", default=[*KINDS], choices=[*KINDS], help="kinds (default: all)")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no round after so many")
    parser.add_argument("--keep", type=Path, default=KEPT, help="file for the rounds (default: %(default)s)")
    parser.add_argument("--table", type=Path, default=TABLE, help="file for the table (default: %(default)s)")
    return parser.parse_args()


def _wanted(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Kinds and numbers of rounds: the kinds in turn, the cheap ones first."""
    n_costly = -(-options.rounds // COSTS)
    cheap = [(kind, number) for number in range(options.rounds) for kind in options.only if kind in CHEAP]
    return cheap + [(kind, number) for number in range(n_costly) for kind in options.only if kind in COSTLY]


def _rounds(folder: Path, wanted: list[tuple[str, int]], seed: int, end: float) -> Iterator[Round]:
    with ExitStack() as open_benches:
        benches: dict[str, Bench] = {}
        for kind, number in wanted:
            if time.monotonic() > end:
                return
            if kind not in benches:
                benches[kind] = open_benches.enter_context(KINDS[kind](folder / kind))
            yield benches[kind].round(seed, number)


if __name__ == "__main__":
    main()
