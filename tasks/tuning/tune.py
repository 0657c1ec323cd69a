"""Tune the few numbers of a method on slices whose truth is known."""

from contextlib import closing
from functools import partial

from prefect import task
from prefect.artifacts import create_image_artifact, create_table_artifact
from prefect.logging import get_run_logger

from scoreinv.errors import UserError
from scoreinv.spec import digest_of
from storage.joined import open_store
from storage.lease import Lease
from storage.uri import join, write_bytes, write_json
from tasks.artifacts import artifact_key, image_url, key_of
from tasks.progress import Meter
from tasks.recipes import TuneRecipe
from tasks.reconstruct import checked_prior
from tasks.running.owned import owned_folder
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution
from tasks.running.stopping import stoppable
from tasks.tuning.trials import (
    Trial,
    Tuning,
    best_of,
    discard_damaged_trials,
    read_trials,
    run_trials,
    validation_places,
)
from tasks.tuning.tuned import best_text, picture, trials_table, values_text
from tasks.workers.evaluate import VERSION as METRICS_VERSION
from tasks.workers.reconstruct import VERSION, ReconstructJob
from tasks.workers.stores import dataset_of, open_dataset, simulation_of
from tasks.workers.tune import TuneJob
from tasks.workspace import locate, locate_prior, reference, subjects_of


@task(name="tune", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def tune(recipe: TuneRecipe, execution: Execution) -> str:
    """The reference of the tuning: its trials, best.yaml and trials.png.

    Raises:
        ValueError: if no trial gave an image.
        StoreHeld: if another run makes it, and ``execution.when_busy`` is "fail".
    """
    tuning, ref = prepared_tuning(recipe, execution)
    with owned_folder(tuning.uri, execution, partial(_tell_new, tuning, [])) as lease:
        discard_damaged_trials(tuning.uri)
        _follow(tuning, execution, lease, f"Tuning {recipe.reconstruction.method.kind} on {recipe.measurements}")
        trials = read_trials(tuning.uri)
        lease.require()
        write_outcome(tuning, trials, ref)
    _show(tuning, trials)
    return ref


def prepared_tuning(recipe: TuneRecipe, execution: Execution) -> tuple[Tuning, str]:
    """The tuning, and its reference.

    Raises:
        StoreNotFound: if measurements, data set or prior are not there.
        ValueError: if the prior is for other images, or a subject is not there.
    """
    workspace, choice = execution.workspace, recipe.reconstruction
    measurements = open_store(locate(workspace, recipe.measurements, "measurements"))
    if not dataset_of(measurements):
        raise UserError(f"{recipe.measurements} are a scanner's, and nobody knows their truth: tune on simulated ones")
    dataset = locate(workspace, dataset_of(measurements), "datasets")
    # What is kept of the recipe, and its address, name people as the data set does: perhaps by hashes.
    recipe = recipe.model_copy(update={"subjects": subjects_of(workspace, [dataset], recipe.subjects)})
    prior = locate_prior(workspace, choice.prior)
    sha256 = checked_prior(prior, choice, measurements)
    ref = reference("tuning", digest_of(recipe.address(), sha256, METRICS_VERSION, VERSION))
    reconstruct = ReconstructJob(
        measurements=measurements.uri,
        target=join(workspace, ref),
        prior=prior,
        prior_sha256=sha256,
        simulation=simulation_of(measurements),
        reconstruction=choice,
        batch_size=execution.batch_size,
        device=execution.device,
        is_compiled=execution.is_compiled,
        projector=execution.projector,
    )
    places = validation_places(open_dataset(dataset).records, recipe)
    job = TuneJob(reconstruct=reconstruct, dataset=dataset, places=places)
    return Tuning(join(workspace, ref), recipe, job), ref


def write_outcome(tuning: Tuning, trials: list[Trial], ref: str) -> None:
    """Put the recipe, the best one that follows, and the picture beside the trials."""
    recipe = tuning.recipe
    text = best_text(recipe, trials, ref)
    write_json(join(tuning.uri, "recipe.json"), recipe.model_dump(mode="json"))
    write_bytes(join(tuning.uri, "trials.png"), picture(recipe, trials))
    write_bytes(join(tuning.uri, "best.yaml"), text.encode())


def _tell_new(tuning: Tuning, told: list[Trial]) -> None:
    for trial in read_trials(tuning.uri, len(told)):
        told.append(trial)
        get_run_logger().info("%s", trial_text(tuning.recipe.metric, told))


def _follow(tuning: Tuning, execution: Execution, lease: Lease, title: str) -> None:
    trials, n = read_trials(tuning.uri), tuning.n_slices
    total = max(tuning.recipe.n_trials, len(trials)) * n
    with (
        Meter(title, tuning.uri, total=total, skipped=len(trials) * n) as meter,
        closing(run_trials(tuning, execution)) as steps,
    ):
        for step in steps:
            lease.refuse_lost()
            meter.show(step.n_done)
            if step.trial is not None:
                trials.append(step.trial)
                meter.log.info("%s", trial_text(tuning.recipe.metric, trials))


def trial_text(metric: str, trials: list[Trial]) -> str:
    """One line about the last trial."""
    last = trials[-1]
    head = f"trial {last.number}: {values_text(last.values)}"
    if last.score is None:
        return f"{head} failed: {last.error}"
    best = best_of(trials)
    return f"{head} gives {metric} {last.score:.4g}, the best is {best.score:.4g} of trial {best.number}"


def _show(tuning: Tuning, trials: list[Trial]) -> None:
    """The table and the picture as artifacts of the run."""
    recipe, key = tuning.recipe, key_of(tuning.uri)
    title = f"Best trials of {recipe.reconstruction.method.label}, of {len(trials)}"
    create_table_artifact(trials_table(recipe, trials), key=key, description=title)
    picked = f"{recipe.metric} over each option"
    create_image_artifact(image_url(picture(recipe, trials)), key=artifact_key(key, "picture"), description=picked)
