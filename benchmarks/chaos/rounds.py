"""What came of rounds, one JSON line each, and the table of them."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from scoreinv.spec import Spec

HEAD = """# Faults of machines, processes, disks, clocks and files

Made by `python -m benchmarks.chaos`. Each round makes faults of one kind and gives the same command again until it is
done; the end is compared with an undisturbed run. `lost` counts slices and files (and, apart, rows of scores) that are
missing or not whole, `differing` those that hold something else or are too many, `twice` shards that were computed
again, `explained` commands that ended with a message, `faults of the program` those that ended with a traceback or not
at all, `left` processes and temporary files that were there afterwards. All but `explained` and `twice` are to be 0.
"""

FOUND = """## What it found

Each was mended, and the round was run again, but one: a command whose Prefect server was killed had not ended after
300 s. It was no fault: Prefect asks a server that is gone again for a minute at every step of a run, and given more
time such a command ends with its message; so these may take longer now. Nothing was lost by it.

- A plan that was exchanged with another store's was refused by every command, also where its copy was damaged too.
- A file that is no plan in the place of a plan ended in a traceback.
- A joined result stayed finished where a part had lost a shard, and ingest trusted the stamps of files all the same.
- A part that lost shards or its listing, as sources grew, was made again as another data set with all that follows.
- Joined stores had no copy of their plan; of one that no recipe leads to any more a lost plan was lost for good.
- Of a result that no recipe leads to any more `scoreinv verify` named a command that would not finish it.
- A part that was marked as finished and had lost a marker stopped every command on what is joined of it.
- Files under temporary names of killed commands stayed in tunings and leases.
"""


class Round(Spec):
    """What came of the faults of one round."""

    kind: str
    stage: str
    seed: int
    number: int
    faults: dict[str, int]
    """How many of which."""
    n_commands: int
    n_done: int
    n_killed: int
    n_explained: int
    n_repairs: int
    """How often `scoreinv repair` was needed, as a command said so or damage was left in what it did not read."""
    n_lost: int
    n_lost_rows: int
    n_differing: int
    n_twice: int | None
    """None: the shards are computed by programs that are not traced."""
    n_processes_left: int
    n_files_left: int
    explanations: tuple[str, ...]
    """Some of what was said by commands that ended with a message."""
    program_faults: tuple[str, ...]
    """Tracebacks, and commands that hung."""
    details: tuple[str, ...] = ()
    """Of what was lost, differs or is left."""
    seconds: float


def read_rounds(path: Path) -> list[Round]:
    """The rounds that are kept."""
    return [Round.model_validate_json(line) for line in path.read_text().splitlines()] if path.exists() else []


COLUMNS: dict[str, Callable[[Round], int]] = {
    "rounds": lambda one: 1,
    "faults": lambda one: sum(one.faults.values()),
    "commands": lambda one: one.n_commands,
    "done": lambda one: one.n_done,
    "explained": lambda one: one.n_explained,
    "repairs": lambda one: one.n_repairs,
    "twice": lambda one: one.n_twice or 0,
    "lost": lambda one: one.n_lost,
    "lost rows": lambda one: one.n_lost_rows,
    "differing": lambda one: one.n_differing,
    "faults of the program": lambda one: len(one.program_faults),
    "processes left": lambda one: one.n_processes_left,
    "files left": lambda one: one.n_files_left,
}

BAD = ("lost", "lost rows", "differing", "faults of the program", "processes left", "files left")
"""The columns that are to be 0."""


def table(rounds: Sequence[Round]) -> str:
    """A line for each kind and one for all, then one for each fault, in Markdown."""
    kinds = [*dict.fromkeys(one.kind for one in rounds)]
    lines = [[kind, *_sums([one for one in rounds if one.kind == kind])] for kind in kinds]
    faults = sum((Counter(one.faults) for one in rounds), Counter[str]())
    return "\n\n".join(
        [
            markdown(["kind", *COLUMNS], [*lines, ["all", *_sums(rounds)]]),
            markdown(["fault", "times"], [[name, str(n)] for name, n in sorted(faults.items())]),
        ]
    )


def bad_counts(one: Round) -> dict[str, int]:
    """What is to be 0 in a round and is not."""
    return {name: n for name in BAD if (n := COLUMNS[name](one))}


def _sums(rounds: Sequence[Round]) -> list[str]:
    return [str(sum(value(one) for one in rounds)) for value in COLUMNS.values()]


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose columns but the first hold numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])
