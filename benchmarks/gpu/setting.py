"""Where a part of a run works, how much it does there, and how it measures time."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.gpu.packed import Plan, read_plan
from scoreinv.spec import Json

Row = dict[str, Json]
"""One line of the results."""


class Setting(NamedTuple):
    """What every part is told."""

    packed: Path
    result: Path
    device: torch.device
    is_small: bool
    seconds: float
    """Of this part: its limit, or for the training what it takes."""
    earlier: Path | None = None

    @property
    def plan(self) -> Plan:
        """Of the packed folder."""
        return read_plan(self.packed)

    def choice(self, small: int, large: int) -> int:
        """How much to do."""
        return small if self.is_small else large


Part = Callable[[Setting], Iterator[Row]]


def wait(device: torch.device) -> None:
    """Until a device has done what was begun."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: torch.device, *, at_least: float, n_warm: int = 2) -> float:
    """Mean seconds of a call, over so many as take the given time together, after a few that do not count."""
    for _ in range(n_warm):
        call()
    wait(device)
    n, start = 0, time.perf_counter()
    while n == 0 or time.perf_counter() - start < at_least:
        call()
        # A GPU is far behind; to wait for it now and then keeps the count true and costs little.
        n += 1
        if n % 8 == 0 or device.type == "cpu":
            wait(device)
    wait(device)
    return (time.perf_counter() - start) / n


def device_name(device: torch.device) -> str:
    """What the card is called, or that there is none."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
