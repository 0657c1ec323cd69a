"""The plan command: a pipeline recipe for a data set, written for a person to read, edit and run."""

import os
import sys
from functools import partial
from pathlib import Path

from tasks.planning.plan import make_plan
from tasks.planning.plan_text import header, plan_text
from tasks.recipes import PlanRecipe
from tasks.running.shards import Execution


def plan(recipe: PlanRecipe, execution: Execution, *, is_dry: bool) -> None:
    """Write the plan, and print what it costs and how to run it; a dry one only prints the file's content.

    Raises:
        FileExistsError: if the file is there and may not be replaced.
        FileNotFoundError: if there is no folder for it.
    """
    path = Path(recipe.output)
    if not is_dry:
        _require_free(path, may_replace=recipe.overwrite)
    made = make_plan(recipe, execution, _say)
    text = plan_text(made, recipe.output)
    if is_dry:
        print(text, end="")
        return
    # It may name people, in paths and in lists of subjects.
    with open(path, "w" if recipe.overwrite else "x", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
        file.write(text)
    print("\n".join(header(made, recipe.output)), file=sys.stderr)
    print(path)


def _require_free(path: Path, *, may_replace: bool) -> None:
    """Before anything is timed, which takes a while."""
    if path.exists() and not may_replace:
        raise FileExistsError(f"{path} exists: choose another output, or say overwrite=true to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} for {path.name}: make it, or choose another output")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
