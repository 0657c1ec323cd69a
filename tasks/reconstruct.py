"""Reconstruct every slice of a data set from its measurements."""

from prefect import task
from prefect.logging import get_run_logger

from scoreinv.cross_validation import checked
from scoreinv.errors import UserError
from storage.joined import About, create_alike, open_store, part_of
from storage.models import load, read_contract
from storage.shards import ArrayLayout, ShardedStore
from storage.uri import join
from tasks import addresses
from tasks.means import failure_text
from tasks.recipes import Reconstruction, ReconstructRecipe
from tasks.running.owned import fill
from tasks.running.retry import worth_retrying
from tasks.running.shards import Execution, map_shards
from tasks.running.stopping import stoppable
from tasks.workers.calibrate import load_calibration, use
from tasks.workers.priors import elsewhere, image_contract, require_match
from tasks.workers.reconstruct import ReconstructJob, reconstruct_shard
from tasks.workers.stores import dataset_of, simulation_of
from tasks.workspace import locate, locate_calibration, locate_prior, part_reference

PLAIN = {"calibration": "", "is_cross_validated": False}
"""What decides nothing of the images themselves."""


@task(name="reconstruct", retries=1, retry_condition_fn=worth_retrying)
@stoppable
def reconstruct(recipe: ReconstructRecipe, execution: Execution) -> str:
    """The reference of the reconstructions, made where they are not there yet."""
    measurements = open_store(locate(execution.workspace, recipe.measurements, "measurements"))
    prior = locate_prior(execution.workspace, recipe.reconstruction.prior)
    sha256 = checked_prior(prior, recipe.reconstruction, measurements)
    if recipe.reconstruction.is_cross_validated:
        image = image_contract(measurements.attrs)
        checked(simulation_of(measurements).measurement.operator(image.size, n_channels=image.n_channels))
    ref = addresses.of_reconstructions(recipe, sha256)
    store = reconstruction_store(recipe, measurements, join(execution.workspace, ref), prior_sha256=sha256)
    job = ReconstructJob(
        measurements=measurements.uri,
        target=store.uri,
        prior=prior,
        prior_sha256=sha256,
        simulation=simulation_of(measurements),
        reconstruction=recipe.reconstruction,
        batch_size=execution.batch_size,
        device=execution.device,
        is_compiled=execution.is_compiled,
        projector=execution.projector,
        calibration=_checked_calibration(recipe, measurements, sha256, execution.workspace),
        known=_with_less(recipe, sha256, execution.workspace),
    )
    title = f"Reconstructing {recipe.measurements} by {recipe.reconstruction.method.kind}"
    if prior and (warning := elsewhere(read_contract(prior), job.simulation.measurement)):
        get_run_logger().warning(warning)

    def finish() -> None:
        store.finish()
        _tell_failures(store, title)

    fill(store, execution, title, lambda: map_shards(reconstruct_shard, job, store, execution), finish)
    return ref


def _tell_failures(store: ShardedStore, title: str) -> None:
    failures = {name: why for record in store.records() for name, why in record.get("failures", {}).items()}
    if failures:
        get_run_logger().warning("%s: %s", title, failure_text(failures, store.n))


def _checked_calibration(recipe: ReconstructRecipe, measurements: ShardedStore, sha256: str, workspace: str) -> str:
    """Where the calibration that a recipe names is, empty if none; a warning where its intervals need not hold.

    Raises:
        StoreNotFound: if there is no such calibration.
        UserError: if it is of other reconstructions.
    """
    if not recipe.reconstruction.calibration:
        return ""
    uri = locate_calibration(workspace, recipe.reconstruction.calibration)
    calibration = load_calibration(uri)
    about = use(recipe.reconstruction, sha256, measurements)
    if reason := calibration.mismatch(about):
        raise UserError(f"{recipe.reconstruction.calibration}: {reason}")
    if calibration.typical and not recipe.reconstruction.is_cross_validated:
        raise UserError(
            f"{recipe.reconstruction.calibration}: its intervals are as wide as views that are left out say: set "
            "reconstruction.is_cross_validated=true"
        )
    if warning := calibration.elsewhere(about.measurement, is_exact=about.is_exact):
        get_run_logger().warning(warning)
    return uri


def _with_less(recipe: ReconstructRecipe, sha256: str, workspace: str) -> tuple[str, ...]:
    """Where the same images lie or would lie with less beside them: without intervals, and without what is expected."""
    choice = recipe.reconstruction
    less = [choice.model_copy(update={"calibration": ""}), choice.model_copy(update=PLAIN)]
    recipes = [recipe.model_copy(update={"reconstruction": one}) for one in dict.fromkeys(less) if one != choice]
    return tuple(join(workspace, addresses.of_reconstructions(one, sha256)) for one in recipes)


def checked_prior(prior: str, choice: Reconstruction, measurements: ShardedStore) -> str:
    """The sha256 of the weights of a trained model, empty without one.

    Raises:
        StoreNotFound: if there is no such model.
        ValueError: if it is for other images, another kind of measurement, or not of the kind that the method needs.
    """
    if not prior:
        return ""
    _, contract = load(prior)
    measurement = simulation_of(measurements).measurement
    require_match(contract, image_contract(measurements.attrs), method=choice.method, measurement=measurement)
    return contract.sha256


def reconstruction_store(
    recipe: ReconstructRecipe, measurements: ShardedStore, uri: str, *, prior_sha256: str = ""
) -> ShardedStore:
    """The store of the reconstructions, made where it is not there yet; of joined measurements it is joined alike."""
    shape = image_contract(measurements.attrs).stored_shape()
    names = ("mean", "std", "sample") if recipe.reconstruction.n_samples > 1 else ("sample",)
    size = image_contract(measurements.attrs).size
    intervals = {"half_width": ArrayLayout((size, size))} if recipe.reconstruction.calibration else {}

    def about(part: int | None) -> About:
        ref = part_reference(recipe.measurements, measurements, part)
        of_part = recipe.model_copy(update={"measurements": ref})
        measured = part_of(measurements, part)
        attrs = {
            "recipe": of_part.model_dump(mode="json"),
            "prior_sha256": prior_sha256,
            "dataset": dataset_of(measured),
            "image": measured.attrs["image"],
        }
        return About(addresses.of_reconstructions(of_part, prior_sha256), attrs)

    return create_alike(measurements, uri, {name: ArrayLayout(shape) for name in names} | intervals, about)
