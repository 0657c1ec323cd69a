"""The commands that compute: one for every flow, from recipes and key.path=value arguments."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from scoreinv.spec import Spec
from storage.uri import join
from tasks.running.imports import without_collection

if TYPE_CHECKING:  # pulls in Dask
    from flows.recipe_files import RecipeFile
    from tasks.running.shards import Execution

TEXTS = {
    "demo": "the whole pipeline on the slices that come with the project",
    "plan": "choose prior, method and settings for a data set, and write a recipe with the expected cost",
    "ingest": "bring DICOM, NIfTI or other images into a data set",
    "measure": "simulate the measurement of a data set",
    "train": "train a prior, or go on training it",
    "reconstruct": "reconstruct a data set from its measurements",
    "tune": "find the best few numbers of a method on slices whose truth is known, or go on looking",
    "calibrate": "how wide intervals must be, from reconstructions whose truth is known",
    "evaluate": "metrics of reconstructions",
    "report": "a page with pictures and tables",
    "pipeline": "all of these in a row",
    "benchmark": "methods side by side, trained once, over one measurement or several",
}
"""What the list of commands says of each."""

WITHOUT_WORKERS = ("train", "report")
"""Stages that use none of Dask's."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add a parser for every stage, for the pipeline and for the demo."""
    for name, text in TEXTS.items():
        _add_command(commands, name, text)


def run_stage(options: argparse.Namespace) -> int:
    """Run the flow of one of these commands, or show what it would do; 0 when it is done."""
    # What needs torch or Prefect is imported late, so that --help is quick.
    with without_collection():
        from flows.environment import has_no_server
        from flows.recipe_errors import RecipeError
        from scoreinv.errors import UserError
        from tasks.benchmark import BenchmarkRecipe
        from tasks.checks import check_pipeline
        from tasks.finished import finished
        from tasks.recipes import PipelineRecipe, PlanRecipe

    stage = "pipeline" if options.command == "demo" else options.command
    recipe, execution = _parameters(options, recipe_kind(stage))
    if isinstance(recipe, PlanRecipe):
        from flows.plan_command import plan

        plan(recipe, execution, is_dry=options.dry_run)
        return 0
    if isinstance(recipe, PipelineRecipe | BenchmarkRecipe):
        studies = recipe.pipeline() if isinstance(recipe, BenchmarkRecipe) else recipe
        try:
            check_pipeline(studies, execution.workspace, execution.projector)
        except UserError as error:
            raise RecipeError(str(error)) from error
    if options.dry_run:
        from flows.help import describe_plan

        describe_plan(recipe, execution)
        return 0
    # Who has a server wants to see every run there.
    if has_no_server() and (ref := finished(stage, recipe, execution.workspace)):
        print(f"{ref} is there already: nothing to do", file=sys.stderr)
        print(join(execution.workspace, ref))
        return 0
    print(join(execution.workspace, run_flow(stage, recipe, execution)))
    return 0


def run_flow(stage: str, recipe: Spec, execution: "Execution") -> str:
    """Run a stage's flow as the command does; its reference."""
    from flows.environment import prepare_prefect
    from flows.own_server import begin, patience, require_ready
    from tasks.running.cluster import kept_running
    from tasks.workspace import open_workspace

    # Before Prefect writes there: its records of a run hold the recipe.
    open_workspace(execution.workspace)
    prepare_prefect(execution.workspace)
    server = begin()
    if server is None:
        _session().start_server()
        return _flow(stage)(recipe, execution)
    # The server and the first worker get ready while Prefect is imported here.
    with kept_running(execution.cluster, n_early=int(stage not in WITHOUT_WORKERS)) as cluster:
        with without_collection():
            session, flow = _session(), _flow(stage)
        session.drop_strange_proxies()
        require_ready(server, os.environ["PREFECT_HOME"], patience())
        with session.without_heartbeats():
            return flow(recipe, execution.model_copy(update={"cluster": cluster}))


def _parameters(options: argparse.Namespace, kind: type[Spec]) -> "tuple[Spec, Execution]":
    """What and how, from the file and from the command line."""
    from flows.recipe_files import find_recipe, load_execution, load_recipe
    from tasks.running.shards import Execution

    changes, execution_changes = _split(options.changes)
    path = _recipe_path(options, changes, find_recipe)
    default = _planned_execution(options.device) if options.command == "plan" else Execution()
    execution = load_execution(default, path, [*shortcuts(options), *execution_changes]).absolute()
    return load_recipe(kind, path, changes), execution


def _planned_execution(device: str | None) -> "Execution":
    from tasks.planning.timing import machine_workers
    from tasks.running.cluster import LocalWorkers
    from tasks.running.shards import Execution

    return Execution(cluster=LocalWorkers(n_workers=machine_workers(device or "auto")))


def _recipe_path(
    options: argparse.Namespace, changes: list[str], find: "Callable[[str], RecipeFile]"
) -> "RecipeFile | None":
    if options.command == "demo":
        return find("demo")
    # In a URI "=" may be part of a folder's name.
    if options.recipe and "=" in options.recipe and "://" not in options.recipe.partition("=")[0]:
        changes.insert(0, options.recipe)
        return None
    return find(options.recipe) if options.recipe else None


def _split(changes: Sequence[str]) -> tuple[list[str], list[str]]:
    prefix = "execution."
    return [c for c in changes if not c.startswith(prefix)], [
        c.removeprefix(prefix) for c in changes if c.startswith(prefix)
    ]


def shortcuts(options: argparse.Namespace) -> list[str]:
    """The options of the command that are keys of execution, as changes to it."""
    given = {
        "workspace": options.workspace,
        "cluster.n_workers": options.workers,
        "batch_size": options.batch_size,
        "device": options.device,
    }
    # Quoted, as values are read as YAML: a folder may be called [2024].
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items() if value is not None]


def recipe_kind(command: str) -> type[Spec]:
    """What the recipe of a command is."""
    from tasks import benchmark, recipes

    kinds: dict[str, type[Spec]] = {
        "ingest": recipes.IngestRecipe,
        "measure": recipes.MeasureRecipe,
        "train": recipes.TrainRecipe,
        "reconstruct": recipes.ReconstructRecipe,
        "tune": recipes.TuneRecipe,
        "calibrate": recipes.CalibrateRecipe,
        "evaluate": recipes.EvaluateRecipe,
        "report": recipes.ReportRecipe,
        "pipeline": recipes.PipelineRecipe,
        "benchmark": benchmark.BenchmarkRecipe,
        "plan": recipes.PlanRecipe,
    }
    return kinds["pipeline" if command == "demo" else command]


def _session() -> ModuleType:
    from flows import prefect_session

    if not os.environ.get("SCOREINV_TRACEBACK"):
        prefect_session.quieten()
    return prefect_session


def _flow(stage: str) -> "Callable[[Spec, Execution], str]":
    flow: Callable[[Spec, Execution], str] = getattr(import_module(f"flows.{stage}"), f"{stage}_flow")
    return flow


def _add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str) -> None:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".", add_help=False)
    if name == "demo":
        command.set_defaults(recipe=None)
    else:
        text = "a YAML file (a path or a URI), which may set execution.* as well, or the name of a shipped recipe"
        command.add_argument("recipe", nargs="?", metavar="RECIPE", help=text)
    command.add_argument(
        "changes",
        nargs="*",
        metavar="key.path=value",
        help="changes to the recipe, or to execution.*; lists as key=[a,b], items by their number as studies.0.name=x; "
        "text needs quotes against the shell only",
    )
    command.add_argument(
        "-h", "--help", action=_Help, nargs=0, const=name, help="show this and every key with its choices, and stop"
    )
    command.add_argument("--dry-run", action="store_true", help="show the full recipe and what would be done, and stop")
    command.add_argument("--workspace", help="folder of all results (default: workspace)")
    workers = "one per GPU or core" if name == "plan" else "2"
    command.add_argument("--workers", type=int, help=f"Dask worker processes on this machine (default: {workers})")
    if name == "plan":
        command.set_defaults(batch_size=None)  # it is what a plan chooses
    else:
        command.add_argument("--batch-size", type=int, help="images per network call (default: 8)")
    command.set_defaults(run=run_stage)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where networks run (default: auto)")


class _Help(argparse.Action):
    """Prints the usage of a command and every key of its recipe with choices, default and meaning."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from flows.help import show_keys
        from tasks.running.shards import Execution

        parser.print_help()
        print("\nkeys of the recipe:")
        show_keys(recipe_kind(str(self.const)))
        print("\nkeys of execution:")
        show_keys(Execution, prefix="execution.")
        sys.stdout.flush()
        parser.exit()
