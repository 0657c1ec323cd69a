"""The loop that all kinds of faults share: disturb, run until done, compare, look what is left."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any, Self
from uuid import uuid4

from benchmarks.chaos import study, traces
from benchmarks.chaos.commands import LOG, PATIENCE_SECONDS, ROUND, Call, Command, Said, context, started
from benchmarks.chaos.contents import contents
from benchmarks.chaos.leftovers import files_left, processes_left
from benchmarks.chaos.rounds import Round
from storage.errors import StoreError
from storage.verify import STAGES, problems_of
from tasks.running.shards import Execution

TRIES = 6
"""Undisturbed commands that may be needed in the end: after a repair there is one more."""


class Bench:
    """Rounds of one kind of faults: what the commands need, and what an undisturbed one leaves.

    A kind says in ``disturb`` what goes wrong; ``run`` gives commands and counts what they say.
    """

    kind = ""
    stages: tuple[str, ...] = ("study",)
    """A round runs one of these, in turn."""
    has_prior = True
    is_traced = True
    patience = PATIENCE_SECONDS

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.resources = ExitStack()
        self.stage = self.stages[0]
        self.temporary, self.traces = folder / "temporary", folder / "traces"
        self.temporary.mkdir(parents=True)
        self.prior = study.put_prior(folder / "prior") if self.has_prior else ""
        self.expected: dict[str, dict[str, str]] = {}
        self.given: dict[str, study.References] = {}
        self.seconds: dict[str, float] = {}
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()

    # ---- what kinds do otherwise ---------------------------------------------------------------------------------

    def disturb(self, chance: Random) -> None:
        """Give commands and make faults; count these in ``self.faults``."""

    def execution(self) -> Execution | None:
        """How commands compute; None: in their own processes."""
        return None

    def place(self, name: str) -> Path:
        """Where a workspace lies."""
        return self.folder / name

    def environment(self) -> dict[str, str]:
        """What the environment of commands says, beside what it always does."""
        return {LOG: str(self.folder / "log")}

    def source(self) -> str:
        """The folder that is ingested, if any is."""
        return ""

    def found(self) -> dict[str, str]:
        """What the workspace holds."""
        return without_pages(contents(self.workspace)) if self.stage == "pipeline" else contents(self.workspace)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def round(self, seed: int, number: int) -> Round:
        """Disturb a run, finish it, and compare."""
        start, chance = time.monotonic(), Random(f"{self.kind} {seed} {number}")
        self.prepare(self.stages[number % len(self.stages)])
        self._forget()
        self.workspace = self._fresh("chaos")
        self.disturb(chance)
        self.finish()
        lost, rows, differing, details = self.compared()
        processes, files = processes_left(self.mark), files_left(self.temporary, self.workspace)
        says = [f"{said.how}: {said.text}"[-1500:] for said in self.said if said.how in ("fault", "hangs")]
        return Round(
            kind=self.kind,
            stage=self.stage,
            seed=seed,
            number=number,
            faults={name: n for name, n in sorted(self.faults.items()) if name and n},
            n_commands=len(self.said),
            n_done=self._n("done"),
            n_killed=self._n("killed"),
            n_explained=self._n("explained"),
            n_repairs=self.n_repairs,
            n_lost=max(lost, self.lost_at_once[0]),
            n_lost_rows=max(rows, self.lost_at_once[1]),
            n_differing=max(differing, self.lost_at_once[2]),
            n_twice=traces.n_twice(self.traces) if self.is_traced else None,
            n_processes_left=len(processes),
            n_files_left=len(files),
            explanations=tuple(dict.fromkeys(one.text[:200] for one in self.said if one.how == "explained"))[:3],
            program_faults=tuple(says),
            details=tuple([*details, *processes, *files][:8]),
            seconds=time.monotonic() - start,
        )

    def prepare(self, stage: str) -> None:
        """Make what a stage needs, and what an undisturbed command leaves, unless that is known."""
        self.stage = stage
        if stage in self.expected:
            return
        self.given[stage] = study.inputs(self.folder / f"inputs-{stage}", stage)
        self._forget()
        context()  # the first command would wait for it
        self.workspace, start = self._fresh("calm"), time.monotonic()
        said = self.run()
        if said[0].how != "done":
            raise RuntimeError(f"{stage} fails undisturbed: {said}")
        self.seconds[stage] = time.monotonic() - start
        self.expected[stage] = self.found()

    def run(
        self,
        n: int = 1,
        meanwhile: Callable[[list[Command]], None] = lambda commands: None,
        *,
        before: Sequence[Callable[[], object]] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Said]:
        """Give n commands in the same moment, do something meanwhile, and wait for what they say."""
        commands = self._started(self.work(self._task()), n, before=before, environment=environment)
        meanwhile(commands)
        said = [command.said(self.patience) for command in commands]
        self.said += said
        return said

    def work(self, task: study.Task) -> Callable[[], Any]:
        """What a command does."""
        return partial(study.run, task, self.execution())

    def where(self) -> str:
        """The URI of the workspace."""
        return str(self.workspace)

    def finish(self) -> None:
        """Give the command until it is done and all is whole, as a user does who reads what it says."""
        for _ in range(TRIES):
            (said,) = self.run()
            if said.how == "done" and not self.problems():
                return
            if said.how == "done" or "scoreinv repair" in said.text:
                self.repair()

    def problems(self) -> list[tuple[str, str]]:
        """Stage and URI of each result that is not whole."""
        results = [(stage, str(path)) for stage in STAGES for path in (self.workspace / stage).glob("*")]
        return [(stage, uri) for stage, uri in results if problems_of(stage, uri)]

    def repair(self) -> None:
        """Give `scoreinv repair --all`."""
        self.n_repairs += 1
        (command,) = self._started(partial(study.repair, self._task(), self.execution()))
        said = command.said(self.patience)
        self.said += [said] if said.how != "done" else []

    def compared(self) -> tuple[int, int, int, list[str]]:
        """Slices and files that are missing, rows that are, what differs or is too much, and some of their names."""
        expected = self.expected[self.stage]
        try:
            found = self.found()
        except StoreError:
            found = {}
        missing = [key for key in expected if key not in found]
        rows = [key for key in missing if " row " in key]
        differing = [key for key in found if found[key] != expected.get(key)]
        wrong = [one for result in self.problems() for one in problems_of(*result)] if missing else []
        details = [f"lost {key}" for key in missing[:3]] + [f"differing {key}" for key in differing[:3]] + wrong[:2]
        return len(missing) - len(rows), len(rows), len(differing), details

    def compare_at_once(self, said: Sequence[Said]) -> None:
        """Compare before the last commands, if one of these is done: what it called so must be whole by then."""
        if any(one.how == "done" for one in said):
            self.lost_at_once = self.compared()[:3]

    def _task(self) -> study.Task:
        return study.Task(self.stage, self.where(), self.given[self.stage], self.source(), self.prior)

    def _started(
        self,
        work: Callable[[], Any],
        n: int = 1,
        *,
        before: Sequence[Callable[[], object]] = (),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> list[Command]:
        own = {ROUND: self.mark, traces.FILE: str(self.traces), "TMPDIR": str(self.temporary)}
        return started([Call(work, own | self.environment() | dict(environment), tuple(before))] * n)

    def _forget(self) -> None:
        self.mark, self.faults, self.said = uuid4().hex, Counter[str](), list[Said]()
        self.n_repairs, self.lost_at_once = 0, (0, 0, 0)
        self.traces.unlink(missing_ok=True)

    def _fresh(self, name: str) -> Path:
        place = self.place(name)
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self.temporary)
        self.temporary.mkdir()
        return Path(shutil.copytree(self.folder / f"inputs-{self.stage}", place, dirs_exist_ok=True))

    def _n(self, how: str) -> int:
        return sum(said.how == how for said in self.said)


def without_pages(found: Mapping[str, str]) -> dict[str, str]:
    """All but the reports' pages, which name the seconds that the stages before took."""
    return {key: value for key, value in found.items() if not key.endswith(" page")}
