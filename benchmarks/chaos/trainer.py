"""A training under torchrun, one of whose processes is killed."""

import time
from contextlib import suppress
from functools import partial
from random import Random

import psutil

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command

ROLES = {"launch trainer": "trainer killed", "launch group": "torchrun killed"}


class Trainer(Bench):
    """Weights and curve must be those of a training that nobody killed."""

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
        if not role:
            self.faults["command killed"] += commands[0].kill()
        for one in commands[0].family(role)[:1] if role else ():
            with suppress(psutil.Error):
                one.kill()
                self.faults[ROLES[role]] += 1
