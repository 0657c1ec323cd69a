"""The commands that look after results: verify says what is wrong with them, repair makes it again."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, cast

from scoreinv.errors import UserError

if TYPE_CHECKING:  # pulls in Dask
    from tasks.running.shards import Execution
    from tasks.workspace import StageName

COMMANDS = {
    "measurements": "measure",
    "reconstructions": "reconstruct",
    "calibrations": "calibrate",
    "scores": "evaluate",
    "priors": "train",
}
"""The command that makes a result of a stage, where it is not called as the stage."""


EXECUTION = "execution."


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the parsers of verify and repair."""
    verify = _add_command(commands, "verify", "say what is wrong with results; exit code 1 if anything is")
    verify.set_defaults(run=run_verify, workers=None, batch_size=None, device=None)
    repair = _add_command(commands, "repair", "make what is damaged of results again, and nothing else")
    repair.add_argument("--workers", type=int, help="Dask worker processes on this machine (default: 2)")
    repair.add_argument("--batch-size", type=int, help="images per network call (default: 8)")
    repair.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where networks run (default: auto)")
    repair.set_defaults(run=run_repair)


def run_verify(options: argparse.Namespace) -> int:
    """Print what is wrong with each result; 1 if anything is."""
    from storage.verify import problems_of

    workspace, n_wrong = _execution(options).workspace, 0
    for stage, ref in _results(options, workspace):
        problems = problems_of(stage, _locate(workspace, stage, ref))
        n_wrong += bool(problems)
        _say(ref, problems or ["whole"])
    return 1 if n_wrong else 0


def run_repair(options: argparse.Namespace) -> int:
    """Make again what is damaged of each result; 1 if something is left."""
    from tasks.running.mistakes import explain

    execution, n_left = _execution(options), 0
    for stage, ref in _results(options, execution.workspace):
        try:
            problems = _repaired(stage, ref, execution)
        except Exception as error:
            if (message := explain(error)) is None:
                raise
            problems = [message]
        n_left += bool(problems)
        _say(ref, [f"not mended: {problem}" for problem in problems] or ["whole"])
    return 1 if n_left else 0


def _repaired(stage: str, ref: str, execution: "Execution") -> list[str]:
    """What is still wrong with a result after all that could be done."""
    from storage.verify import discard_damaged, finish_if_all_is_there, problems_of, recipe_of

    uri = _locate(execution.workspace, stage, ref)
    problems = problems_of(stage, uri)
    if not problems:
        return []
    _say(ref, problems)
    discard_damaged(stage, uri)
    if stage == "datasets":
        finish_if_all_is_there(uri)
        how = "run the ingest command again with the source that it came from, which is not kept"
        return [f"{problem}: {how}" for problem in problems_of(stage, uri)]
    recipe = recipe_of(stage, uri)
    if recipe is None:
        return problems_of(stage, uri)
    made = _make_again(COMMANDS.get(stage, "tune"), recipe, execution)
    if made != ref:
        return [f"this version, or another prior of that name, makes {made} of its recipe; {ref} can be removed"]
    return problems_of(stage, uri)


def _make_again(command: str, recipe: dict[str, object], execution: "Execution") -> str:
    from flows.stage_commands import recipe_kind, run_flow

    return run_flow(command, recipe_kind(command).model_validate_json(json.dumps(recipe)), execution)


def _results(options: argparse.Namespace, workspace: str) -> list[tuple[str, str]]:
    """Stage and reference of each result that is asked for; of all in an order in which each needs those before it."""
    from storage.uri import join, list_names
    from storage.verify import STAGES

    names = [text for text in options.results if not text.startswith(EXECUTION)]
    if options.all == bool(names):
        raise UserError("name results, as measurements/0a1b2c3d4e5f, or say --all, one of the two")
    if options.all:
        return [(stage, f"{stage}/{name}") for stage in STAGES for name in list_names(join(workspace, stage))]
    return [_result(text, workspace, STAGES) for text in names]


def _result(text: str, workspace: str, stages: tuple[str, ...]) -> tuple[str, str]:
    """Also of a path, as the commands print it."""
    parts = text.removeprefix(workspace.rstrip("/")).strip("/").split("/")
    is_known = len(parts) in (2, 3) and parts[0] in stages and (len(parts) == 2 or parts[0] == "reports")
    if not is_known:
        raise UserError(f"{text!r} names no result: write STAGE/DIGEST, with a stage of {', '.join(stages)}")
    return parts[0], "/".join(parts[:2])


def _locate(workspace: str, stage: str, ref: str) -> str:
    from tasks.workspace import locate

    return locate(workspace, ref, cast("StageName", stage))


def _execution(options: argparse.Namespace) -> "Execution":
    from flows.recipe_files import load_execution
    from flows.stage_commands import shortcuts
    from tasks.running.shards import Execution

    changes = [text.removeprefix(EXECUTION) for text in options.results if text.startswith(EXECUTION)]
    return load_execution(Execution(), None, [*shortcuts(options), *changes])


def _say(ref: str, sentences: list[str]) -> None:
    for sentence in sentences:
        print(f"{ref}: {sentence}")
    sys.stdout.flush()


def _add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.add_argument(
        "results", nargs="*", metavar="REF", help="a result, as measurements/0a1b2c3d4e5f; also changes to execution.*"
    )
    command.epilog = "Changes to execution.*, as execution.cluster.kind=inline, may stand among the results."
    command.add_argument("--all", action="store_true", help="every result of the workspace")
    command.add_argument("--workspace", help="folder of all results (default: workspace)")
    return command
