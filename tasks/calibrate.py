"""Learn from people whose truth is known how wide intervals must be."""

import math

import numpy as np
from prefect import task
from prefect.logging import get_run_logger

from scoreinv.calibration import GAIN, Calibration, calibrated, relative
from scoreinv.errors import UserError
from storage.datasets import DatasetStore
from storage.joined import About, create_alike, open_store, part_of
from storage.shards import ShardedStore
from storage.uri import join
from tasks import addresses
from tasks.recipes import CalibrateRecipe, Reconstruction
from tasks.running.owned import fill
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.workers.calibrate import CalibrateJob, calibrate_shard, errors_in, load_calibration, use_of, value_bounds
from tasks.workers.priors import image_contract
from tasks.workspace import locate, model_of, part_reference


@task(name="calibrate", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def calibrate(recipe: CalibrateRecipe, execution: Execution) -> str:
    """The reference of the calibration, made where it is not there yet.

    Raises:
        UserError: if nobody knows the true images, or there are fewer than two people whom the model has not seen.
    """
    reconstructions = open_store(locate(execution.workspace, recipe.reconstructions, "reconstructions"))
    dataset = str(reconstructions.attrs["dataset"])
    if not dataset:
        raise UserError(
            f"{recipe.reconstructions} is of a scan whose true images nobody has: calibrate reconstructions of images "
            "that were measured by simulation"
        )
    ref = addresses.of_calibration(recipe)
    store = _store(recipe, reconstructions, join(execution.workspace, ref))
    job = CalibrateJob(
        dataset=locate(execution.workspace, dataset, "datasets"),
        measurements=_measurements(reconstructions, execution.workspace),
        reconstructions=reconstructions.uri,
        target=store.uri,
    )
    title = f"Calibrating {recipe.reconstructions}"

    def finish() -> None:
        found = _calibration(reconstructions, store, execution.workspace)
        store.finish(manifest=found.model_dump(mode="json"))

    fill(store, execution, title, lambda: map_shards(calibrate_shard, job, store, execution), finish)
    get_run_logger().info("%s", summary_of(load_calibration(store.uri)))
    return ref


def summary_of(calibration: Calibration) -> str:
    """How often people who were left out are covered, in a sentence."""
    pairs = zip(calibration.levels, calibration.covered, strict=True)
    said = ", ".join(f"{covered:.1%} by intervals of {level:.0%}" for level, covered in pairs)
    return f"people left out, {calibration.n_people} in turn: covered {said}"


def _store(recipe: CalibrateRecipe, reconstructions: ShardedStore, uri: str) -> ShardedStore:
    """The store of the counted errors, made where it is not there yet; of joined reconstructions it is joined alike."""

    def about(part: int | None) -> About:
        ref = part_reference(recipe.reconstructions, reconstructions, part)
        of_part = recipe.model_copy(update={"reconstructions": ref})
        dataset = str(part_of(reconstructions, part).attrs["dataset"])
        return About(addresses.of_calibration(of_part), {"recipe": of_part.model_dump(mode="json"), "dataset": dataset})

    return create_alike(reconstructions, uri, {}, about)


def _measurements(reconstructions: ShardedStore, workspace: str) -> str:
    return locate(workspace, reconstructions.attrs["recipe"]["measurements"], "measurements")


def _people_seen(reconstructions: ShardedStore, workspace: str) -> set[str]:
    """Whom the model was trained on, as far as it is known: their errors are smaller than those of others."""
    named = Reconstruction.model_validate(reconstructions.attrs["recipe"]["reconstruction"]).prior
    records = DatasetStore.open(locate(workspace, str(reconstructions.attrs["dataset"]), "datasets")).listing.slices
    model = model_of(workspace, named)
    return {records[place].subject_id for place in model.seen([one.checksum for one in records])} if model else set()


def _calibration(reconstructions: ShardedStore, store: ShardedStore, workspace: str) -> Calibration:
    measured = open_store(_measurements(reconstructions, workspace))
    image = image_contract(measured.attrs)
    seen = _people_seen(reconstructions, workspace)
    if seen:
        get_run_logger().warning("%d people are left out: the model was trained on slices of theirs", len(seen))
    errors = errors_in(store, image, without=seen)
    counts, typical = list(errors.counts.values()), np.empty(0)
    if errors.expected is not None:
        counts, typical = relative(counts, list(errors.expected.values()))
    table = calibrated(counts)
    about = use_of(reconstructions, measured)
    return Calibration(
        image=about.image,
        method=about.method.model_dump(mode="json"),
        prior_sha256=about.prior_sha256,
        n_samples=about.n_samples,
        measurement=about.measurement.model_dump(mode="json"),
        is_exact=about.is_exact,
        gain=GAIN,
        typical=tuple(typical.tolist()),
        bounds=value_bounds(image),
        half_widths=tuple(map(tuple, table.half_widths.tolist())),
        covered=tuple(table.covered.tolist()),
        covered_by_class=tuple(
            tuple(None if math.isnan(x) else x for x in row) for row in table.covered_by_class.tolist()
        ),
        n_people=len(counts),
        n_slices=errors.n_slices,
    )
