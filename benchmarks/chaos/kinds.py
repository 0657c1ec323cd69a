"""All kinds of faults by their names."""

from benchmarks.chaos.bench import Bench
from benchmarks.chaos.bucket import Bucket
from benchmarks.chaos.clock import Clock
from benchmarks.chaos.damage import Damage
from benchmarks.chaos.disk import Disk
from benchmarks.chaos.growth import Growth
from benchmarks.chaos.processes import Kill, Race
from benchmarks.chaos.real import Real
from benchmarks.chaos.server import Server
from benchmarks.chaos.trainer import Trainer
from benchmarks.chaos.workers import Remote, Workers

CHEAP: dict[str, type[Bench]] = {one.kind: one for one in (Kill, Race, Damage, Disk, Clock, Growth)}
"""A round costs seconds."""

COSTLY: dict[str, type[Bench]] = {one.kind: one for one in (Remote, Bucket, Workers, Trainer, Server, Real)}
"""A round starts programs that import everything anew."""

KINDS = CHEAP | COSTLY
