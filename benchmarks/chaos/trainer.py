"""A training under torchrun, one of whose processes is killed."""

import time
from functools import partial
from random import Random

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command

ROLES = {"launch trainer": "trainer killed", "launch group": "torchrun killed"}


class Trainer(Bench):
    """A training under torchrun, one of whose processes is killed: weights and curve must be as if nobody had."""

    kind = "trainer"
    stages = ("trainer",)
    has_prior = False
    is_traced = False

    def disturb(self, chance: Random) -> None:
        for _ in range(chance.randint(1, 2)):
            self.run(1, partial(self._kill, chance))

    def _kill(self, chance: Random, commands: list[Command]) -> None:
        time.sleep(chance.uniform(0, self.seconds[self.stage]))
        role = chance.choice([*ROLES, ""])
        self.faults[ROLES.get(role, "command killed")] += commands[0].kill(role)
