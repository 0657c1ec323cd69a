"""What a tuning found: the best recipe, a table and a picture."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from tasks.means import mean_of
from tasks.recipes import ReconstructRecipe, TuneRecipe
from tasks.rendering.search import Varied, search_png
from tasks.tuning.search_spaces import Values, may_be_wider
from tasks.tuning.trials import Trial, best_of, with_trial

N_BEST = 10
"""Rows of the table."""


def best_text(recipe: TuneRecipe, trials: Sequence[Trial], ref: str) -> str:
    """The content of best.yaml: a ReconstructRecipe, and above it what was gained.

    Raises:
        ValueError: if all trials failed.
    """
    best = best_of(trials)
    choice = with_trial(recipe.reconstruction, best.values)
    found = ReconstructRecipe(measurements=recipe.measurements, reconstruction=choice)
    comments = "".join(f"# {line}\n" for line in _comments(recipe, trials, best, ref))
    return comments + yaml.safe_dump(found.model_dump(mode="json"), sort_keys=False)


def _comments(recipe: TuneRecipe, trials: Sequence[Trial], best: Trial, ref: str) -> Iterator[str]:
    given, name = trials[0], recipe.metric
    before = f"failed ({given.error})" if given.score is None else f"{given.score:.4g}"
    yield f"The best of {len(trials)} trials of {ref}, by the mean {name} over {_slices_text(best, name)}:"
    yield f"  as given  {name} {before}  {values_text(given.values)}"
    yield f"  best      {name} {best.score:.4g}  {values_text(best.values)}"
    if best.number and given.score is not None:
        gain, error = _gain(given, best, name)
        yield f"  gain      {gain:.2g}, with a standard error of {error:.2g} over the slices"
    for one in recipe.space():
        if best.number and may_be_wider(recipe.reconstruction.method, one, best.values[one.key]):
            low, high = one.bounds
            yield f"  {one.key} is near an end of its range, {low:g} to {high:g}: a wider one may hold a better value"
    yield "It was chosen on these slices, so expect a little less on others. To use it on them, add"
    yield "measurements=measurements/... to: scoreinv reconstruct best.yaml"


def _slices_text(trial: Trial, metric: str) -> str:
    n, total = mean_of(trial.rows, metric).n, len(trial.rows)
    return f"{total} slices" if n == total else f"{n} of {total} slices (on the others it is infinite or undefined)"


def _gain(given: Trial, best: Trial, metric: str) -> tuple[float, float]:
    """The mean of the differences per slice, of those that have one, and its standard error."""
    pairs = zip(given.rows, best.rows, strict=True)
    gains = [{metric: float(str(after[metric])) - float(str(before[metric]))} for before, after in pairs]
    mean, deviation, n = mean_of(gains, metric)
    return mean, deviation / math.sqrt(n) if n > 1 else math.nan


def values_text(values: Values) -> str:
    """The values as changes to a recipe's method are written."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def trials_table(recipe: TuneRecipe, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The best trials, best first, and the method as given wherever it comes."""
    ranked = sorted(trials, key=lambda trial: -math.inf if trial.score is None else trial.score, reverse=True)
    shown = [trial for place, trial in enumerate(ranked) if place < N_BEST or trial.number == 0]
    return [_row(recipe.metric, trial) for trial in shown]


def _row(metric: str, trial: Trial) -> dict[str, Any]:
    score = "failed" if trial.score is None else f"{trial.score:.4g}"
    name = "as given" if trial.number == 0 else str(trial.number)
    return {"trial": name, metric: score, **trial.values, "network calls": trial.nfe, "seconds": f"{trial.seconds:.1f}"}


def picture(recipe: TuneRecipe, trials: Sequence[Trial]) -> bytes:
    """trials.png: the metric over each option that was varied."""
    varied = [Varied(one.key, [trial.values[one.key] for trial in trials], one.is_log) for one in recipe.space()]
    title = f"{recipe.reconstruction.method.label}: {len(trials)} trials"
    return search_png(varied, [trial.score for trial in trials], metric=f"mean {recipe.metric}", title=title)
