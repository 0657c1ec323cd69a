"""What is lost when several commands of one recipe run at once and some of them are killed.

    python benchmarks/races.py --rounds 50 --stages ingest measure evaluate
    python benchmarks/races.py --table benchmarks/results/races.md

Each round starts two or three identical stages in the same moment, in processes of their own, on a workspace that has
their inputs, and kills each with a chance of one half by SIGKILL at a random time (every other round kills nobody). If
one of them says that it is done, its result must be whole and the same as that of an undisturbed run; and so it must
after one more, undisturbed run in any case. What a stage does is what its Prefect task does, without a server: one for
each of thousands of runs would take all the time. The stage "command" is the real `scoreinv measure`, with a server and
two Dask workers, of which some are killed too. Phantoms of 16 x 16 pixels. Rounds are kept, one line each, so a
series that was stopped goes on.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import psutil
import torch
from prefect.logging import disable_run_logger

import tasks.artifacts
import tasks.evaluate
import tasks.ingest
import tasks.measure
import tasks.progress
import tasks.reconstruct
import tasks.report
import tasks.train
import tasks.tuning.tune
from scoreinv.baselines import Direct, TotalVariation
from scoreinv.contract import ImageContract
from scoreinv.measurement import GaussianNoise
from scoreinv.nets import UNet
from scoreinv.operators.mri import CartesianMRI
from scoreinv.spec import Spec, digest_of
from scoreinv.training.loop import TrainSpec
from storage.errors import StoreError
from storage.joined import open_store
from storage.scores import read_scores
from storage.shards import ShardedStore
from storage.sources import PhantomSource
from storage.uri import write_json
from storage.verify import STAGES as RESULTS
from storage.verify import problems_of
from tasks.recipes import (
    EvaluateRecipe,
    IngestRecipe,
    MeasureRecipe,
    Reconstruction,
    ReconstructRecipe,
    ReportRecipe,
    Simulation,
    TrainRecipe,
    TuneRecipe,
)
from tasks.running.cluster import Inline
from tasks.running.mistakes import explain
from tasks.running.shards import Execution, Launch
from tasks.workers.training.train import main as train_one_process
from tasks.workers.training.train_job import TrainJob

KEPT = Path("benchmarks/results/races.jsonl")
HEAD = """# Several commands of one recipe at once

Made by `python benchmarks/races.py`, whose docstring says what a round is. Every other round kills some by SIGKILL.
`done`: commands that said so, as they made the result or followed whoever did; `lost` and `differing`: shards, rows and
files beside those of an undisturbed run, of what a command called done or at the latest after one more run; `said
otherwise`: any other message. The last three are to be 0.
"""

N_COMMANDS = (2, 3)
PATIENCE_SECONDS = 900.0
"""A command that takes longer hangs."""

INGEST = IngestRecipe(
    source=PhantomSource(modality="mri", n_volumes=2, n_slices=3, size=16, pixel_mm=16.0),
    image=ImageContract(modality="mri", size=16, pixel_mm=16.0, low=0, high=1),
    shard_size=1,
)
SIMULATION = Simulation(measurement=CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.02)))


class Round(Spec):
    """What came of several commands at once."""

    stage: str
    n_commands: int
    number: int
    n_killed: int
    n_done: int
    """Commands that said that they were done."""
    n_lost: int
    """Shards, rows and files that are missing in what is done, at once or after one more run."""
    n_differing: int
    others: tuple[str, ...]
    """What commands said that neither were done nor killed: nothing is right."""
    seconds: float


class References(NamedTuple):
    """Of the inputs that the stages share."""

    dataset: str
    measurements: str
    reconstruction: str
    scores: str


def main() -> None:
    """Run the rounds that are not kept yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=0, help="of two and of three commands, per stage")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=list(STAGES))
    parser.add_argument("--keep", type=Path, default=KEPT, help="file for the rounds (default: %(default)s)")
    parser.add_argument("--table", type=Path, help="write the table of all rounds kept to this file")
    options = parser.parse_args()
    kept = read_rounds(options.keep)
    known = {(one.stage, one.n_commands, one.number) for one in kept}
    with tempfile.TemporaryDirectory() as folder, options.keep.open("a") as file:
        races = {}
        for number in range(options.rounds):
            for stage in options.stages:
                for n_commands in N_COMMANDS:
                    if (stage, n_commands, number) not in known:
                        races[stage] = races.get(stage) or Race(stage, Path(folder) / stage)
                        kept.append(races[stage].round(n_commands, number))
                        print(kept[-1], flush=True)
                        file.write(kept[-1].model_dump_json() + "\n")
                        file.flush()
    print(table(kept))
    if options.table:
        options.table.write_text(f"{HEAD}\n{table(kept)}\n")


def read_rounds(path: Path) -> list[Round]:
    """The rounds that are kept."""
    return [Round.model_validate_json(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rounds: list[Round]) -> str:
    """One line for each stage and number of commands, in Markdown."""
    head = ["stage", "at once", "rounds", "killed", "done", "lost", "differing", "said otherwise"]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for stage in STAGES:
        for n in N_COMMANDS:
            mine = [one for one in rounds if (one.stage, one.n_commands) == (stage, n)]
            names = ("n_killed", "n_done", "n_lost", "n_differing")
            sums = [sum(getattr(one, name) for one in mine) for name in names]
            if mine:
                others = sum(len(one.others) for one in mine)
                lines.append([stage, str(n), str(len(mine)), *map(str, sums), str(others)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class Race:
    """Rounds of one stage: its inputs, made once, and what an undisturbed run gives."""

    def __init__(self, stage: str, folder: Path) -> None:
        self.stage, self.folder = stage, folder
        # From a server that has everything imported, a process starts in a moment.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["benchmarks.races"])
        self.references: References | None = None
        if stage not in ("ingest", "pipeline"):
            self.references = _inputs(folder / "inputs", stage)
        else:
            (folder / "inputs").mkdir(parents=True)
        self._start_server()
        calm, start = self._workspace("calm"), time.monotonic()
        if (said := self._at_once(calm, 1, None)) != (0, ["done"]):
            raise RuntimeError(f"{stage} fails undisturbed: {said}")
        self.seconds = time.monotonic() - start
        # A report of another pipeline names other seconds.
        without = " page" if stage == "pipeline" else " nothing"
        self.expected = {key: value for key, value in snapshot(calm).items() if not key.endswith(without)}

    def _start_server(self) -> None:
        """Of processes: what it takes is not part of what a command takes, in which some are killed."""
        first = self.context.Process(target=int)
        first.start()
        first.join()

    def round(self, n_commands: int, number: int) -> Round:
        """Run several commands at once, then one alone."""
        chance, start = random.Random(f"{self.stage} {n_commands} {number}"), time.monotonic()
        workspace = self._workspace("race")
        killed, said = self._at_once(workspace, n_commands, chance if number % 2 else None)
        lost, differing = self._compared(workspace) if "done" in said else (0, 0)
        _, last = self._at_once(workspace, 1, None)
        lost_after, differing_after = self._compared(workspace)
        others = [text for text in said + last if text != "done"]
        return Round(
            stage=self.stage,
            n_commands=n_commands,
            number=number,
            n_killed=killed,
            n_done=said.count("done"),
            n_lost=max(lost, lost_after),
            n_differing=max(differing, differing_after),
            others=tuple(others),
            seconds=time.monotonic() - start,
        )

    def _workspace(self, name: str) -> Path:
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return Path(shutil.copytree(self.folder / "inputs", self.folder / name))

    def _at_once(self, workspace: Path, n: int, chance: random.Random | None) -> tuple[int, list[str]]:
        """How many were killed, and what the others said."""
        gate, pipes = self.context.Event(), [self.context.Pipe(duplex=False) for _ in range(n)]
        commands = [
            self.context.Process(target=_command, args=(self.stage, str(workspace), self.references, gate, sender))
            for _, sender in pipes
        ]
        for command in commands:
            command.start()
        for receiver, sender in pipes:
            sender.close()
            receiver.recv()
        gate.set()
        if chance:
            _kill_some(commands, self.seconds * n, chance)
        for command in commands:
            command.join(PATIENCE_SECONDS)
        said = [_said(command, receiver) for command, (receiver, _) in zip(commands, pipes, strict=True)]
        return said.count(""), [text for text in said if text]

    def _compared(self, workspace: Path) -> tuple[int, int]:
        found = snapshot(workspace)
        lost = [key for key in self.expected if key not in found]
        return len(lost), sum(found[key] != self.expected[key] for key in self.expected if key in found)


def _said(command: Any, receiver: Connection) -> str:
    """What a command said in the end; nothing if it was killed."""
    if command.is_alive():
        command.kill()
        return f"hangs for {PATIENCE_SECONDS:.0f} s"
    if command.exitcode == -signal.SIGKILL:
        return ""
    try:
        return str(receiver.recv())
    except EOFError:
        return "done" if command.exitcode == 0 else f"ended with exit code {command.exitcode}"


def _kill_some(commands: list[Any], seconds: float, chance: random.Random) -> None:
    """Kill each, or one of its workers, by SIGKILL with a chance of one half, some time within so many seconds."""
    times = sorted((chance.uniform(0, seconds), i) for i in range(len(commands)) if chance.random() < 0.5)
    start = time.monotonic()
    for moment, i in times:
        time.sleep(max(0.0, moment - (time.monotonic() - start)))
        with suppress(psutil.NoSuchProcess):
            command = psutil.Process(commands[i].pid)
            workers = [one for one in command.children(recursive=True) if "spawn_main" in " ".join(one.cmdline())]
            chance.choice([command, *workers]).kill()


def _command(stage: str, workspace: str, references: References | None, gate: Event, sender: Connection) -> None:
    sender.send("ready")
    gate.wait()
    if stage == "command":
        _become_the_command(workspace, references)
    try:
        _run(stage, workspace, references)
        sender.send("done")
    except Exception as error:
        sender.send(f"{type(error).__name__}: {explain(error) or f'TRACEBACK {error!r}'}")


def _become_the_command(workspace: str, given: References | None) -> None:
    """The real `scoreinv measure`, with a server and Dask workers of its own, in place of this process."""
    log = os.open(f"{workspace}.{os.getpid()}.log", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {"PREFECT_HOME": tempfile.mkdtemp(), "PYTHONPATH": os.getcwd()}
    recipe = [f"dataset={given.dataset if given else ''}", f"simulation={SIMULATION.model_dump_json()}"]
    options = ["--workspace", workspace, "--workers", "2"]
    os.execv(sys.executable, [sys.executable, "-m", "flows.cli", "measure", *recipe, *options])


# ---- stages --------------------------------------------------------------------------------------------------------


def _run(stage: str, workspace: str, references: References | None) -> None:
    torch.set_num_threads(1)
    with _without_artifacts(), disable_run_logger():
        STAGES[stage](Execution(workspace=workspace, cluster=Inline(), batch_size=2), references)


@contextmanager
def _without_artifacts() -> Iterator[None]:
    """A block in which nothing is shown of a run while it goes on, as that needs a server."""
    with ExitStack() as undone:
        for module in (tasks.artifacts, tasks.progress, tasks.tuning.tune, tasks.train):
            for name in [name for name in vars(module) if re.match("(create|update)_.*_artifact", name)]:
                undone.enter_context(patch.object(module, name, lambda *_, **__: uuid.uuid4()))
        yield


def _inputs(workspace: Path, stage: str) -> References:
    """What the stage needs, in a workspace, and no more than that."""
    workspace.mkdir(parents=True)
    execution = Execution(workspace=str(workspace), cluster=Inline())
    with tempfile.TemporaryDirectory() as folder:
        _run("pipeline", folder, None)
        names = {name: _only(Path(folder) / name) for name in ("datasets", "measurements", "reconstructions", "scores")}
        needed = {"measure": 1, "command": 1, "train": 1, "reconstruct": 2, "tune": 2, "evaluate": 3, "report": 4}[
            stage
        ]
        for name in list(names)[:needed]:
            shutil.copytree(Path(folder) / name, Path(execution.workspace) / name)
    return References(*names.values())


def _only(folder: Path) -> str:
    (path,) = folder.iterdir()
    return f"{folder.name}/{path.name}"


def _ingest(execution: Execution, _: References | None) -> str:
    return str(tasks.ingest.ingest.fn(INGEST, execution))


def _measure(execution: Execution, given: References) -> str:
    return str(tasks.measure.measure.fn(MeasureRecipe(dataset=given.dataset, simulation=SIMULATION), execution))


def _reconstruct(execution: Execution, given: References) -> str:
    choice = Reconstruction(method=Direct())
    recipe = ReconstructRecipe(measurements=given.measurements, reconstruction=choice)
    return str(tasks.reconstruct.reconstruct.fn(recipe, execution))


def _evaluate(execution: Execution, given: References) -> str:
    return str(tasks.evaluate.evaluate.fn(EvaluateRecipe(reconstructions=(given.reconstruction,)), execution))


def _report(execution: Execution, given: References) -> str:
    return str(tasks.report.report.fn(ReportRecipe(scores=(given.scores,), n_pictures=1), execution))


def _pipeline(execution: Execution, _: References | None) -> str:
    """The same in a row, as the pipeline's flow orders it."""
    dataset = _ingest(execution, None)
    measurements = _measure(execution, References(dataset, "", "", ""))
    reconstruction = _reconstruct(execution, References("", measurements, "", ""))
    scores = _evaluate(execution, References("", "", reconstruction, ""))
    return _report(execution, References("", "", "", scores))


def _train(execution: Execution, given: References) -> str:
    """One process, as torchrun would start it: torchrun itself takes longer than the training."""
    recipe = TrainRecipe(
        name="tiny",
        datasets=(given.dataset,),
        network=UNet(patch=2, n_features=8, channel_multipliers=(1, 2), n_blocks=1),
        training=TrainSpec(n_images=32, batch_size=4),
        validation_subjects=("phantom-1",),
        validate_every=8,
    )
    target, trunk = f"{execution.workspace}/priors/tiny", f"{execution.workspace}/trainings/tiny"
    write_json(f"{target}/recipe.json", recipe.model_dump(mode="json"))
    datasets = (f"{execution.workspace}/{given.dataset}",)
    job = TrainJob(
        recipe=recipe, datasets=datasets, target=target, trunk=trunk, launch=Launch(n_threads=1), device="cpu"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(job.model_dump_json())
        file.flush()
        tasks.train.in_turn(job, execution, lambda: train_one_process(file.name))
    return "priors/tiny"


def _tune(execution: Execution, given: References) -> str:
    choice = Reconstruction(method=TotalVariation(weight=1e-3, n_iters=3))
    recipe = TuneRecipe(measurements=given.measurements, reconstruction=choice, n_trials=3, n_slices=4)
    return str(tasks.tuning.tune.tune.fn(recipe, execution))


STAGES: dict[str, Callable[[Execution, Any], str]] = {
    "ingest": _ingest,
    "measure": _measure,
    "reconstruct": _reconstruct,
    "evaluate": _evaluate,
    "report": _report,
    "pipeline": _pipeline,
    "train": _train,
    "tune": _tune,
    "command": _measure,
}


# ---- results -------------------------------------------------------------------------------------------------------


def snapshot(workspace: Path) -> dict[str, str]:
    """What all results in a workspace hold, times apart: a digest for every shard, row and file that is whole."""
    stages = [workspace / stage for stage in RESULTS if (workspace / stage).is_dir()]
    parts = (_parts_of(stage.name, path) for stage in stages for path in sorted(stage.iterdir()))
    return {key: digest_of(_timeless(value)) for part in parts for key, value in part}


def _parts_of(stage: str, path: Path) -> Iterator[tuple[str, Any]]:
    head = f"{stage}/{path.name}"
    try:
        problems = problems_of(stage, str(path))
        if problems:
            print(f"  {head}: {problems}", file=sys.stderr)
        else:
            yield f"{head} is whole", True
        yield from ((f"{head} {name}", value) for name, value in _contents(stage, path))
    except (StoreError, OSError) as error:
        print(f"  {head}: {error}", file=sys.stderr)


def _contents(stage: str, path: Path) -> Iterator[tuple[str, Any]]:
    if stage == "reports":
        page = (path / "report.html").read_text().replace(str(path.parents[1]), "")
        yield "page", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", page)
    elif stage == "priors":
        for file in sorted((path / "prior").glob("*.safetensors"))[-1:]:
            yield "weights", hashlib.sha256(file.read_bytes()).hexdigest()
        for i, line in enumerate((path / "curve.jsonl").read_text().splitlines()):
            yield f"row {i}", json.loads(line)
    elif stage == "tuning":
        for record in sorted(path.glob("trials/*/trial.json")):
            content = json.loads(record.read_text())
            yield record.parent.name, {key: value for key, value in content.items() if key != "seal"}
        yield "best.yaml", (path / "best.yaml").read_text()
    else:
        yield from _shards(open_store(str(path)))
        if stage == "scores":
            yield from ((f"row {i}", {**row, "seconds": 0}) for i, row in enumerate(read_scores(str(path))))


def _shards(store: ShardedStore) -> Iterator[tuple[str, Any]]:
    for shard, record in zip(store.plan(), store.records(), strict=True):
        yield f"record {shard.index}", record
        for name in store.layouts:
            values = store.read(name, shard.start, shard.stop)
            yield f"shard {shard.index} of {name}", hashlib.sha256(values.tobytes()).hexdigest()
    yield "manifest", store.manifest()


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(item) for key, item in value.items() if not key.startswith("seconds")}
    return [_timeless(item) for item in value] if isinstance(value, list | tuple) else str(value)


if __name__ == "__main__":
    main()
