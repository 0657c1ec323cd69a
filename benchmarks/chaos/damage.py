"""Files of a workspace that are cut off, emptied, lost, changed in a bit, or exchanged, between commands."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command

NAMES = {
    "plan": ("*/*/plan.json",),
    "marker": ("*/*/done/*.json",),
    "shard": ("*/*/*/c/**/*",),
    "description": ("*/*/zarr.json", "*/*/*/zarr.json", "*/*/manifest.json", "*/*/_SUCCESS"),
    "lease": ("*/*/lease/*",),
    "other file": ("datasets/*/*.json", "scores/*/*.*", "catalogue/**/*.json"),
}


def _cut(path: Path, chance: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) or 1)])


def _empty(path: Path, chance: Random) -> None:
    path.write_bytes(b"")


def _lose(path: Path, chance: Random) -> None:
    path.unlink()


def _flip(path: Path, chance: Random) -> None:
    content = bytearray(path.read_bytes() or b"x")
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _exchange(path: Path, chance: Random) -> None:
    """With a file beside it, or of the same name in another store."""
    others = {*path.parent.iterdir(), *path.parents[2].glob(f"**/{path.name}")} - {path}
    other = chance.choice(sorted(one for one in others if one.is_file()) or [path.with_name("other")])
    other.touch()
    shutil.copy(path, kept := path.with_name("kept"))
    shutil.copy(other, path)
    shutil.move(kept, other)


DAMAGES: dict[str, Callable[[Path, Random], None]] = {
    "cut off": _cut,
    "emptied": _empty,
    "lost": _lose,
    "changed in a bit": _flip,
    "exchanged": _exchange,
}


class Damage(Bench):
    """A command is killed or done, files are damaged, and the same command comes again."""

    kind = "damage"

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 3)):
            self.run(1, partial(_kill_late, chance.uniform(0.3, 2) * self.seconds[self.stage]))
            self.faults.update(damage(self.workspace, chance) for _ in range(chance.randint(1, 6)))


def damage(workspace: Path, chance: Random) -> str:
    """Damage a file of a workspace, if there is one of the kind that was drawn; what was done to what."""
    what, how = chance.choice([*NAMES]), chance.choice([*DAMAGES])
    files = sorted(path for one in NAMES[what] for path in workspace.glob(one) if path.is_file())
    if not files:
        return ""
    DAMAGES[how](chance.choice(files), chance)
    return f"{what} {how}"


def _kill_late(seconds: float, commands: list[Command]) -> None:
    commands[0].kill(after=seconds)
