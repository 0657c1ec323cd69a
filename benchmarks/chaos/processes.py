"""Commands that are killed, alone or while others make the same."""

from functools import partial
from random import Random

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command, kill_some


class Kill(Bench):
    """A command is killed again and again, each time a little later in its work."""

    kind = "kill"
    stages = ("study", "study", "study", "pipeline", "train", "tune")

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(2, 16)):
            (said,) = self.run(1, partial(self._kill, chance.uniform(0, 0.4 * self.seconds[self.stage])))
            if said.how == "done":
                # Nothing is left that could be interrupted.
                return

    def _kill(self, seconds: float, commands: list[Command]) -> None:
        self.faults["command killed"] += commands[0].kill(after=seconds)


class Race(Bench):
    """Two or three commands of one recipe at once, each killed with a chance of one half in every other round."""

    kind = "race"
    stages = ("study", "ingest", "measure", "reconstruct", "evaluate", "report", "pipeline", "train", "tune")

    def disturb(self, chance: Random) -> None:
        n = chance.choice((2, 3))
        self.compare_at_once(self.run(n, partial(self._kill, chance) if chance.random() < 0.7 else _watch))

    def _kill(self, chance: Random, commands: list[Command]) -> None:
        self.faults["command killed"] += kill_some(commands, self.seconds[self.stage] * len(commands), chance)


def _watch(commands: list[Command]) -> None:
    return None
