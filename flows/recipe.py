"""The recipe flow: a pipeline by its recipe's name, for a form that fits on a screen."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from flows.forms import from_form, workspace_from_form
from flows.pipeline import run_pipeline
from flows.recipe_errors import RecipeError
from flows.recipe_files import RECIPES, RecipeFile, holds, load_execution, load_recipe
from storage.uri import Place, join
from tasks.benchmark import BenchmarkRecipe
from tasks.recipes import PipelineRecipe
from tasks.running.shards import Execution
from tasks.workspace import locate

FOLDER_VARIABLE = "SCOREINV_RECIPES"
"""The environment variable that names the folder whose recipes forms may choose from."""

Device = Literal["as the recipe says", "auto", "cpu", "cuda"]


@flow(name="recipe", flow_run_name="{recipe}")
def recipe_flow(
    recipe: str = "demo",
    changes: tuple[str, ...] = (),
    workspace: Place = "workspace",
    n_workers: Annotated[int, Field(ge=0, le=1024)] = 0,
    batch_size: Annotated[int, Field(ge=0)] = 0,
    device: Device = "as the recipe says",
) -> str:
    """Run a pipeline by the name of its recipe.

    Args:
        recipe: One that ships (demo, smoke, compare-ct-128, compare-mri-128, results-ct-128, results-mri-128,
            results-ct-256, results-ct-320, results-mri-240, prior-ct-128, prior-mri-128, prior-ct-256, prior-ct-320,
            prior-mri-240, fine-tune-ct-128, ct-512, paper-lidc-320, paper-brats-240, ldct-512, benchmark-ct-128,
            benchmark-ct-256, benchmark-mri-128, benchmark-mri-240, benchmark-metal-256), a plan as
            plans/0a1b2c3d4e5f, or a YAML file below the folder that the environment variable SCOREINV_RECIPES of the
            worker names.
        changes: Such as studies.0.simulation.seed=1, or execution.retries=0, as the command takes them.
        workspace: Folder or bucket that holds every result, whatever the recipe says; a relative folder counts from
            where the run starts.
        n_workers: Dask workers on the machine of the run. 0: as the recipe says, or one per GPU, or 2 without.
        batch_size: Images per network call. 0: as the recipe says, or 8.
        device: Where networks run.

    Returns:
        The reference reports/<digest>/report.html within the workspace.
    """
    execution = Execution(workspace=workspace_from_form(workspace)).absolute()
    overrides = {
        "workspace": execution.workspace,
        "cluster.n_workers": n_workers,
        "batch_size": batch_size,
        "device": "" if device == "as the recipe says" else device,
    }
    path = found_recipe(recipe.strip(), execution.workspace)
    what = [change for change in changes if not change.startswith("execution.")]
    how = [change.removeprefix("execution.") for change in changes if change.startswith("execution.")]
    how = [f"{key}={json.dumps(value)}" for key, value in overrides.items() if value] + how
    known = load_pipeline(path)
    chosen = from_form(load_pipeline(path, what), known=known)
    settings = from_form(load_execution(execution, path, how), known=_known(execution, path))
    return run_pipeline(chosen, settings.absolute())


def load_pipeline(path: RecipeFile, changes: Sequence[str] = ()) -> PipelineRecipe:
    """The pipeline in a file, or the one that the benchmark there stands for; errors as ``load_recipe``."""
    if holds(path, "simulations"):
        return load_recipe(BenchmarkRecipe, path, changes).pipeline()
    return load_recipe(PipelineRecipe, path, changes)


def _known(execution: Execution, path: RecipeFile) -> Execution:
    """What an operator and this form's own field say of places."""
    return load_execution(execution, path, [f"workspace={json.dumps(execution.workspace)}"])


def found_recipe(name: str, workspace: str) -> RecipeFile:
    """The file of a recipe that a form may name: one that ships, a plan, or one below the configured folder.

    Raises:
        RecipeError: if it is none of these; says what there is.
        StoreNotFound: if there is no such plan; names those there are.
    """
    if name.startswith("plans/"):
        return join(locate(workspace, name, "plans"), "plan.yaml")
    shipped = {path.stem: path for path in RECIPES.glob("*.yaml")}
    if name in shipped:
        return shipped[name]
    folder = os.environ.get(FOLDER_VARIABLE, "")
    path = (Path(folder) / name).resolve() if folder else None
    if path is None or not path.is_relative_to(Path(folder).resolve()) or path.suffix not in (".yaml", ".yml"):
        where = f"a YAML file below {folder}" if folder else f"set {FOLDER_VARIABLE} of the worker to offer a folder"
        raise RecipeError(f"there is no recipe {name!r}: choose {', '.join(sorted(shipped))}; or {where}")
    if not path.is_file():
        raise RecipeError(f"there is no recipe {name!r} below {folder}")
    return path
