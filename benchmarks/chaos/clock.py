"""Clocks that leap under leases, and owners that are stopped for so long that others take them for dead."""

import os
import signal
import time
from contextlib import suppress
from functools import partial
from random import Random

import storage.lease
import tasks.running.owned
from benchmarks.chaos.bench import Bench
from benchmarks.chaos.commands import Command

EXPIRY_SECONDS, BEAT_SECONDS, LOOK_SECONDS = 0.6, 0.1, 0.05
"""Of leases in these rounds: a stopped owner is taken for dead in a moment."""


class Clock(Bench):
    """Two or three commands of one recipe, each with clocks of its own; some are stopped and go on, some are killed."""

    kind = "clock"

    def disturb(self, chance: Random) -> None:
        seed = chance.getrandbits(32)
        n = chance.choice((2, 3))
        self.compare_at_once(self.run(n, partial(self._stop, chance), before=[partial(leap, seed)]))

    def _stop(self, chance: Random, commands: list[Command]) -> None:
        self.faults["clock that leaps"] += len(commands)
        for _ in range(chance.randint(0, 3)):
            time.sleep(chance.uniform(0, self.seconds[self.stage]))
            chosen = chance.choice(commands)
            if chosen.process.exitcode is not None:
                continue
            if chance.random() < 0.3:
                self.faults["command killed"] += chosen.kill()
                continue
            # It may have ended by now.
            with suppress(ProcessLookupError):
                os.kill(chosen.pid, signal.SIGSTOP)
                time.sleep(chance.uniform(0.5, 3) * EXPIRY_SECONDS)
                os.kill(chosen.pid, signal.SIGCONT)
                self.faults["command stopped for a while"] += 1


def leap(seed: int) -> None:
    """Let the clocks of this process go forward and back by hours, each look at them with a chance of one in ten."""
    chance, real, offset = Random(f"{seed} {os.getpid()}"), time.time, [0.0]

    def look() -> float:
        if chance.random() < 0.1:
            offset[0] = chance.uniform(-36_000, 36_000)
        return real() + offset[0]

    watch = partial(storage.lease.Watch, clock=look)
    for module in (storage.lease, tasks.running.owned):
        module.Watch = watch
        module.look_seconds = lambda uri: LOOK_SECONDS
    storage.lease.EXPIRY_SECONDS, storage.lease.BEAT_SECONDS = EXPIRY_SECONDS, BEAT_SECONDS
    time.time = look
