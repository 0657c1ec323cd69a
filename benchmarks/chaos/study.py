"""What is run: the stages of a small study, as their Prefect tasks run them, without a server."""

import hashlib
import json
import re
import shutil
import tempfile
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from prefect.logging import disable_run_logger

import flows.store_commands
import tasks.artifacts
import tasks.evaluate
import tasks.ingest
import tasks.measure
import tasks.progress
import tasks.reconstruct
import tasks.report
import tasks.train
import tasks.tuning.tune
from benchmarks.chaos.traces import traced
from flows.stage_commands import recipe_kind
from scoreinv.baselines import Direct, TotalVariation
from scoreinv.contract import ImageContract, PriorContract
from scoreinv.denoiser import EDMPreconditioning
from scoreinv.measurement import GaussianNoise
from scoreinv.nets import UNet
from scoreinv.operators.mri import CartesianMRI
from scoreinv.samplers.dds import DDS
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.training.checkpoint import build_model, weights_bytes
from scoreinv.training.loop import TrainSpec
from storage.models import publish
from storage.sources import NiftiSource, PhantomSource
from storage.uri import write_json
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
from tasks.running.cluster import Inline, kept_running
from tasks.running.shards import Execution, Launch
from tasks.running.torchrun import torchrun
from tasks.workers.training.train import main as train_one_process
from tasks.workers.training.train_job import TrainJob

IMAGE = ImageContract(modality="mri", size=16, pixel_mm=16.0, low=0, high=1)
INGEST = IngestRecipe(
    source=PhantomSource(modality="mri", n_volumes=2, n_slices=3, size=16, pixel_mm=16.0), image=IMAGE, shard_size=1
)
SIMULATION = Simulation(measurement=CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.02)))
NETWORK = UNet(patch=2, n_features=8, channel_multipliers=(1, 2), n_blocks=1)
SAMPLER = DDS(grid=SigmaGrid(n_levels=4, sigma_max=3.0, sigma_min=0.01))
NAMES = ("datasets", "measurements", "reconstructions", "scores")


class References(NamedTuple):
    """Of results that a stage may need."""

    dataset: str = ""
    measurements: str = ""
    reconstruction: str = ""
    scores: str = ""


class Task(NamedTuple):
    """A stage to run in a workspace, and what it needs: references, or the folder of a source or a prior."""

    stage: str
    workspace: str
    given: References = References()
    source: str = ""
    prior: str = ""


def run(task: Task, execution: Execution | None = None) -> list[str]:
    """Run a stage in this process, and return the references of what it made."""
    torch.set_num_threads(1)
    chosen = execution or Execution(cluster=Inline(), batch_size=2)
    with _without_artifacts(), disable_run_logger(), traced():
        return STAGES[task.stage](chosen.model_copy(update={"workspace": task.workspace}), task)


def repair(task: Task, execution: Execution | None = None) -> list[str]:
    """Give `scoreinv repair --all`, which makes results again by tasks in place of flows: these start servers."""
    torch.set_num_threads(1)
    chosen = execution or Execution(cluster=Inline(), batch_size=2)
    own = chosen.model_copy(update={"workspace": task.workspace})
    options = Namespace(results=[], all=True, workspace=task.workspace, workers=None, batch_size=None, device=None)

    def make_again(command: str, recipe: dict[str, object], _: Execution) -> str:
        made = recipe_kind(command).model_validate_json(json.dumps(recipe))
        return _train(own, task)[0] if command == "train" else str(TASKS[command].fn(made, own))

    again = patch.object(flows.store_commands, "_make_again", make_again)
    with _without_artifacts(), disable_run_logger(), traced(), again:
        flows.store_commands.run_repair(options)
    return []


TASKS: dict[str, Any] = {
    "measure": tasks.measure.measure,
    "reconstruct": tasks.reconstruct.reconstruct,
    "evaluate": tasks.evaluate.evaluate,
    "tune": tasks.tuning.tune.tune,
}
"""By the names of the commands that make results again."""


@contextmanager
def _without_artifacts() -> Iterator[None]:
    """A block in which nothing is shown of a run while it goes on, as that needs a server."""
    with ExitStack() as undone:
        for module in (tasks.artifacts, tasks.progress, tasks.tuning.tune, tasks.train):
            names = [name for name in vars(module) if re.match("(create|update)_.*_artifact|progress_artifact", name)]
            for name in names:
                undone.enter_context(patch.object(module, name, lambda *_, **__: uuid.uuid4()))
        yield


def inputs(workspace: Path, stage: str) -> References:
    """What a stage needs, in a new workspace, and no more than that."""
    workspace.mkdir(parents=True)
    if stage not in NEEDED:
        return References()
    with tempfile.TemporaryDirectory() as folder:
        run(Task("pipeline", folder))
        given = [f"{name}/{path.name}" for name in NAMES for path in (Path(folder) / name).iterdir()]
        for name in NAMES[: NEEDED[stage]]:
            shutil.copytree(Path(folder) / name, workspace / name)
    return References(*given)


NEEDED = {"measure": 1, "train": 1, "trainer": 1, "reconstruct": 2, "tune": 2, "evaluate": 3, "report": 4}
"""How many of the results in ``NAMES`` a stage needs; others begin with an empty workspace."""


def put_prior(folder: Path) -> str:
    """A published prior with random weights, its output not zero."""
    model = build_model(NETWORK, EDMPreconditioning(), seed=1)
    for parameter in model.parameters():
        parameter.data.add_(0.02)
    weights = weights_bytes(model)
    contract = PriorContract(
        name="tiny",
        image=IMAGE,
        network=NETWORK.model_dump(mode="json"),
        preconditioning=EDMPreconditioning().model_dump(mode="json"),
        sigma_min=0.01,
        sigma_max=50,
        training_data=[],
        licence="CC0",
        images_seen=0,
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    publish(str(folder), weights, contract)
    return str(folder)


# ---- stages --------------------------------------------------------------------------------------------------------


def _ingest(execution: Execution, task: Task) -> list[str]:
    recipe = INGEST
    if task.source:
        recipe = IngestRecipe(source=NiftiSource(path=task.source), image=IMAGE, shard_size=1)
    return [str(tasks.ingest.ingest.fn(recipe, execution))]


def _measure(execution: Execution, task: Task) -> list[str]:
    recipe = MeasureRecipe(dataset=task.given.dataset, simulation=SIMULATION)
    return [str(tasks.measure.measure.fn(recipe, execution))]


def _reconstruct(execution: Execution, task: Task) -> list[str]:
    choice = Reconstruction(method=Direct())
    if task.prior:
        choice = Reconstruction(method=SAMPLER, prior=task.prior, n_samples=2, seed=5)
    recipe = ReconstructRecipe(measurements=task.given.measurements, reconstruction=choice)
    return [str(tasks.reconstruct.reconstruct.fn(recipe, execution))]


def _evaluate(execution: Execution, task: Task) -> list[str]:
    recipe = EvaluateRecipe(reconstructions=tuple(task.given.reconstruction.split()))
    return [str(tasks.evaluate.evaluate.fn(recipe, execution))]


def _report(execution: Execution, task: Task) -> list[str]:
    return [str(tasks.report.report.fn(ReportRecipe(scores=(task.given.scores,), n_pictures=1), execution))]


def _study(execution: Execution, task: Task) -> list[str]:
    """All stages in a row but the report, as the pipeline's flow orders them; with a prior, by two methods."""
    with kept_running(execution.cluster) as cluster:
        kept = execution.model_copy(update={"cluster": cluster})
        (dataset,) = _ingest(kept, task)
        (measured,) = _measure(kept, task._replace(given=References(dataset)))
        by = [
            task._replace(given=References(measurements=measured), prior=one) for one in dict.fromkeys(("", task.prior))
        ]
        images = [ref for one in by for ref in _reconstruct(kept, one)]
        scores = _evaluate(kept, task._replace(given=References(reconstruction=" ".join(images))))
    return [dataset, measured, *images, *scores]


def _pipeline(execution: Execution, task: Task) -> list[str]:
    made = _study(execution, task)
    return [*made, *_report(execution, task._replace(given=References(scores=made[-1])))]


def _train(execution: Execution, task: Task) -> list[str]:
    """One process, as torchrun would start it: torchrun itself takes longer than the training."""
    job, file = _train_job(execution, task), f"{task.workspace}.job.json"
    write_json(file, job.model_dump(mode="json"))
    tasks.train.in_turn(job, execution, lambda: train_one_process(file))
    return ["priors/tiny"]


def _trainer(execution: Execution, task: Task) -> list[str]:
    """The same under torchrun."""
    job = _train_job(execution, task)
    tasks.train.in_turn(job, execution, lambda: tasks.train._follow(torchrun(job, 1), "Training"))
    return ["priors/tiny"]


def _train_job(execution: Execution, task: Task) -> TrainJob:
    recipe = TrainRecipe(
        name="tiny",
        datasets=(task.given.dataset,),
        network=NETWORK,
        training=TrainSpec(n_images=32, batch_size=4),
        validation_subjects=("phantom-1",),
        validate_every=8,
    )
    target, trunk = f"{execution.workspace}/priors/tiny", f"{execution.workspace}/trainings/tiny"
    write_json(f"{target}/recipe.json", recipe.model_dump(mode="json"))
    datasets = (f"{execution.workspace}/{task.given.dataset}",)
    launch = Launch(n_threads=1)
    return TrainJob(recipe=recipe, datasets=datasets, target=target, trunk=trunk, launch=launch, device="cpu")


def _tune(execution: Execution, task: Task) -> list[str]:
    choice = Reconstruction(method=TotalVariation(weight=1e-3, n_iters=3))
    recipe = TuneRecipe(measurements=task.given.measurements, reconstruction=choice, n_trials=3, n_slices=4)
    return [str(tasks.tuning.tune.tune.fn(recipe, execution))]


STAGES: dict[str, Callable[[Execution, Task], list[str]]] = {
    "ingest": _ingest,
    "measure": _measure,
    "reconstruct": _reconstruct,
    "evaluate": _evaluate,
    "report": _report,
    "study": _study,
    "pipeline": _pipeline,
    "train": _train,
    "trainer": _trainer,
    "tune": _tune,
}
