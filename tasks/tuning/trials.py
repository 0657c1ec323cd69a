"""The trials of a tuning: one after the other, each on all workers at once, each kept.

The slices of a trial are shared among the workers, not the trials: then every suggestion knows all results
before it, whoever computes, and the same recipe makes the same trials on one worker or on eight, stopped or not.
One run makes the trials, by a lease of the whole tuning. Of one that was outlived and wakes nothing is mixed: what a
trial tries, and what became of it, is what the first put.

Layout of a tuning::

    trials/0000/trial.json     values, score or error, metrics per slice; put last
    trials/0000/done/...       the slices that are done of a trial, so that a stopped one goes on
"""

import math
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import NamedTuple

from pydantic import ValidationError

from scoreinv.errors import UserError
from scoreinv.spec import Json, Spec
from storage.errors import StoreError, StoreMismatch
from storage.listing import SliceRecord
from storage.plans import read_if_whole, restore_plan
from storage.shards import ShardedStore
from storage.uri import create_bytes, delete, exists, join, json_bytes, list_names, read_sealed, sealed
from tasks.means import mean_of
from tasks.recipes import Reconstruction, TuneRecipe
from tasks.running.cluster import kept_running
from tasks.running.shards import Events, Execution, map_shards
from tasks.tuning.search_spaces import Values, values_of, with_values
from tasks.tuning.suggestions import suggest
from tasks.workers.tune import TuneJob, tune_shard


class Trial(Spec):
    """What became of one set of values."""

    number: int
    values: Values
    score: float | None
    """The mean of the metric over the slices that have a finite one; None if it failed."""
    error: str = ""
    nfe: int = 0
    """Network calls per slice."""
    seconds: float
    """Of all slices together, on one worker each."""
    rows: tuple[dict[str, Json], ...] = ()
    """Metrics per slice."""


class Tuning(NamedTuple):
    """What is tuned, on what, and where its trials lie; the job is that of the first one."""

    uri: str
    recipe: TuneRecipe
    job: TuneJob

    @property
    def n_slices(self) -> int:
        """In each trial."""
        return len(self.job.places)


class Progress(NamedTuple):
    """How many slices are done in all trials together, and the trial that has just ended, if one has."""

    n_done: float
    trial: Trial | None = None


def run_trials(tuning: Tuning, execution: Execution) -> Generator[Progress, None, None]:
    """Yield what happens until there are as many trials as wanted, or nothing new to try.

    A trial whose values make the method fail is kept as failed, and the next one begins.

    Raises:
        TooManyFailures: if slices failed for reasons of the machine; the trial goes on in the next run.
        ConnectionError: if there is no Dask cluster, or none of its workers takes a slice.
    """
    trials = read_trials(tuning.uri)
    with kept_running(execution.cluster) as cluster:
        kept = execution.model_copy(update={"cluster": cluster})
        while (store := _next_store(tuning, trials, execution.batch_size)) is not None:
            before = len(trials) * tuning.n_slices
            with closing(_slices_done(map_shards(tune_shard, _job(tuning, store), store, kept), store)) as steps:
                for n_done in steps:
                    yield Progress(before + n_done)
            trials.append(_kept(tuning.uri, _ended(tuning.recipe, len(trials), store)))
            yield Progress(before + tuning.n_slices, trials[-1])


def read_trials(uri: str, start: int = 0) -> list[Trial]:
    """The trials that have ended, in order, from a number on.

    Raises:
        StoreError: if a record is damaged.
    """
    trials: list[Trial] = []
    while exists(_record_uri(uri, start + len(trials))):
        trials.append(_read_trial(uri, start + len(trials)))
    return trials


def _read_trial(uri: str, number: int) -> Trial:
    record = _record_uri(uri, number)
    try:
        return Trial.model_validate(read_sealed(record))
    except (StoreError, ValidationError) as error:
        how = "the tune command makes it again, from what is kept of its slices"
        raise StoreError(f"{record} is damaged: {how}") from error


def discard_damaged_trials(uri: str) -> None:
    """Removes records that are damaged, so that ``run_trials`` makes them again of the slices, which are kept."""
    for folder in list_names(join(uri, "trials")):
        record = join(uri, "trials", folder, "trial.json")
        if exists(record) and read_if_whole(record) is None:
            delete(record)


def _kept(uri: str, trial: Trial) -> Trial:
    """The trial, or the same one as another process has kept it."""
    create_bytes(_record_uri(uri, trial.number), json_bytes(sealed(trial.model_dump(mode="json"))))
    return _read_trial(uri, trial.number)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The trial with the largest score; of equal ones the first.

    Raises:
        ValueError: if none has a score; says why the first failed.
    """
    scored = [trial for trial in trials if trial.score is not None]
    if not scored:
        raise UserError(f"all {len(trials)} trials failed, the method as given with: {trials[0].error}")
    return max(scored, key=lambda trial: -math.inf if trial.score is None else trial.score)


def validation_places(records: Sequence[SliceRecord], recipe: TuneRecipe) -> tuple[int, ...]:
    """The places of the slices to measure on: spread evenly over those of the wanted subjects.

    Raises:
        ValueError: if there is no such subject; names some that are there.
    """
    known = list(dict.fromkeys(record.subject_id for record in records))
    if strange := [name for name in recipe.subjects if name not in known]:
        more = f" and {len(known) - 8} more" if len(known) > 8 else ""
        raise UserError(f"there is no subject {', '.join(strange)}: choose of {', '.join(known[:8])}{more}")
    places = [i for i, record in enumerate(records) if not recipe.subjects or record.subject_id in recipe.subjects]
    n = min(recipe.n_slices, len(places))
    # The middle of each n-th part: the ends of a volume hold little.
    return tuple(places[(2 * i + 1) * len(places) // (2 * n)] for i in range(n))


def _record_uri(uri: str, number: int) -> str:
    return join(_folder(uri, number), "trial.json")


def _folder(uri: str, number: int) -> str:
    return join(uri, "trials", f"{number:04d}")


def _next_store(tuning: Tuning, trials: Sequence[Trial], batch_size: int) -> ShardedStore | None:
    """What keeps the slices of the trial that was stopped, or else of a new one; None if there is none to come."""
    folder = _folder(tuning.uri, len(trials))
    if len(trials) >= tuning.recipe.n_trials:
        return None
    if restore_plan(folder):
        store = ShardedStore.open(folder, finished=False)
        store.repair()
        return store
    values = _next_values(tuning.recipe, trials)
    if values is None:
        return None
    # A unit of work is what one network call takes: less would waste the device, more would leave workers idle.
    shard_size = max(1, batch_size // tuning.recipe.reconstruction.n_samples)
    attrs: dict[str, Json] = {"values": dict(values)}
    try:
        return ShardedStore.create(folder, n=tuning.n_slices, shard_size=shard_size, arrays={}, attrs=attrs)
    except StoreMismatch:
        # Another process has just begun this trial, with shards of another size.
        return ShardedStore.open(folder, finished=False)


def _next_values(recipe: TuneRecipe, trials: Sequence[Trial]) -> Values | None:
    method, space = recipe.reconstruction.method, recipe.space()
    if not trials:
        return values_of(method, space)
    return suggest(method, space, [(trial.values, trial.score) for trial in trials], seed=recipe.seed)


def _job(tuning: Tuning, store: ShardedStore) -> TuneJob:
    choice = with_trial(tuning.recipe.reconstruction, store.attrs["values"])
    changes = {"target": store.uri, "reconstruction": choice}
    return tuning.job.model_copy(update={"reconstruct": tuning.job.reconstruct.model_copy(update=changes)})


def with_trial(choice: Reconstruction, values: Values) -> Reconstruction:
    """The reconstruction with the values of a trial."""
    return choice.model_copy(update={"method": with_values(choice.method, values)})


def _slices_done(events: Events, store: ShardedStore) -> Generator[float, None, None]:
    pending = {shard.index: shard.stop - shard.start for shard in store.pending()}
    fractions = dict.fromkeys(pending, 0.0)
    with closing(events):
        for event in events:
            fractions[event.shard] = max(fractions[event.shard], event.fraction)
            yield store.n - sum((1 - share) * pending[index] for index, share in fractions.items())


def _ended(recipe: TuneRecipe, number: int, store: ShardedStore) -> Trial:
    records, values = store.records(), store.attrs["values"]
    seconds = sum(float(record["seconds"]) for record in records)
    if errors := [str(record["error"]) for record in records if "error" in record]:
        return Trial(number=number, values=values, score=None, error=errors[0], seconds=seconds)
    rows = tuple(row for record in records for row in record["rows"])
    score = mean_of(rows, recipe.metric).mean
    if not math.isfinite(score):
        error = (
            f"the {recipe.metric} is infinite or undefined on all {len(rows)} slices (exact or empty): give "
            "measurements of slices that show something, or subjects that have them"
        )
        return Trial(number=number, values=values, score=None, error=error, seconds=seconds, rows=rows)
    return Trial(number=number, values=values, score=score, nfe=int(records[0]["nfe"]), seconds=seconds, rows=rows)
