"""What the command says to people: keys and plans."""

import yaml

from flows.keys import key_rows
from scoreinv.spec import Spec
from tasks.benchmark import BenchmarkRecipe
from tasks.recipes import PipelineRecipe, Study, TuneRecipe
from tasks.running.shards import Execution


def show_keys(kind: type[Spec], *, prefix: str = "") -> None:
    """Print every key of a recipe with its choices, default and meaning."""
    for key, value, default, meaning in key_rows(kind, prefix):
        print("  ".join(filter(None, (key, value, default and f"[{default}]"))))
        if meaning:
            print(f"    {meaning}")


def describe_plan(recipe: Spec, execution: Execution) -> None:
    """Print the full recipe, and what a pipeline would do; other stages say where their result would lie."""
    for name, spec in (("recipe", recipe), ("execution", execution)):
        print(yaml.safe_dump({name: spec.model_dump(mode="json")}, sort_keys=False), end="")
    if isinstance(recipe, TuneRecipe):
        for line in _search_lines(recipe):
            print(f"# {line}")
    if isinstance(recipe, BenchmarkRecipe):
        recipe = recipe.pipeline()
    if not isinstance(recipe, PipelineRecipe):
        print(f"# digest {recipe.digest()}, results under {execution.workspace}")
        return
    for study in recipe.studies:
        for line in _study_lines(study):
            print(f"# {line}")


def _search_lines(recipe: TuneRecipe) -> list[str]:
    choice, n_images = recipe.reconstruction, recipe.n_trials * recipe.n_slices * recipe.reconstruction.n_samples
    lines = [f"{recipe.n_trials} trials of {choice.method.kind} on up to {recipe.n_slices} slices"]
    if calls := n_images * choice.method.n_calls:
        lines[0] += f": {calls} network calls, if all take as many as the method as given"
    for one in recipe.space():
        values = ", ".join(map(str, one.choices)) or f"{one.low:g} to {one.high:g}{' by factors' * one.is_log}"
        lines.append(f"  {one.key}: {values}")
    return lines


def _study_lines(study: Study) -> list[str]:
    images = f"at {study.ingest.image.size} pixels" if study.ingest else f"of {study.dataset}"
    lines = [f"study {study.name}: {study.simulation.measurement.kind} {images}"]
    for choice in study.reconstructions:
        calls = choice.method.n_calls * choice.n_samples * (1 + choice.is_cross_validated)
        kind = f"{choice.method.kind} ({choice.prior})" if choice.prior else choice.method.kind
        lines.append(f"  {kind}: {choice.n_samples} samples, {calls} network calls a slice")
    return lines
