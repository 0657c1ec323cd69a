"""All kinds of faults by their names."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.bucket import Bucket
from benchmarks.chaos.clock import Clock
from benchmarks.chaos.damage import Damage
from benchmarks.chaos.disk import Disk
from benchmarks.chaos.growth import Growth
from benchmarks.chaos.processes import Kill, Race
from benchmarks.chaos.real import Real
from benchmarks.chaos.rounds import COLUMNS, Round, markdown
from benchmarks.chaos.server import Server
from benchmarks.chaos.trainer import Trainer
from benchmarks.chaos.workers import Remote, Workers

CHEAP: dict[str, type[Bench]] = {one.kind: one for one in (Kill, Race, Damage, Disk, Clock, Growth)}
"""A round costs seconds."""

COSTLY: dict[str, type[Bench]] = {one.kind: one for one in (Remote, Bucket, Workers, Trainer, Server, Real)}
"""A round starts programs that import everything anew."""

KINDS = CHEAP | COSTLY

BEGIN, END = "<!-- chaos: by python -m benchmarks.chaos -->", "<!-- chaos: end -->"
"""Between these a document holds the short table."""

SHOWN = ("rounds", "faults", "repairs", "lost", "lost rows", "differing", "faults of the program")


def short_table(rounds: Sequence[Round]) -> str:
    """What is done in each kind of round, and what came of it, in Markdown."""
    names = [name for name in KINDS if any(one.kind == name for one in rounds)]
    lines = [[_about(name), *_sums([one for one in rounds if one.kind == name])] for name in names]
    return markdown(["what is done", *SHOWN], [*lines, ["all", *_sums(rounds)]])


def put_short_table(document: Path, rounds: Sequence[Round]) -> None:
    """Put it between the marks of a document, if that has them."""
    head, begin, rest = document.read_text().partition(BEGIN)
    _, end, tail = rest.partition(END)
    if end:
        document.write_text(f"{head}{begin}\n\n{short_table(rounds)}\n\n{end}{tail}")


def _sums(rounds: Sequence[Round]) -> list[str]:
    return [
        str(sum(COLUMNS[name](one) + (one.n_lost_rows if name == "lost" else 0) for one in rounds)) for name in SHOWN
    ]


def _about(name: str) -> str:
    return (KINDS[name].__doc__ or "").splitlines()[0].rstrip(".")
