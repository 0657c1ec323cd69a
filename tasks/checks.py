"""What can be known to be wrong with a pipeline before anything is computed."""

from scoreinv.baselines import NMAR, LinearInterpolation
from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import PoissonNoise
from scoreinv.noise import Noise
from scoreinv.operators import AnyMeasurement
from scoreinv.operators.linear import ProjectorName
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.reconstructors import ReconstructorSpec
from scoreinv.training.objectives import Denoising
from storage.datasets import DatasetStore
from storage.models import load
from storage.uri import is_in_memory
from tasks.recipes import PipelineRecipe, Study, Training
from tasks.workers.contracts import contract_of
from tasks.workers.priors import require_match
from tasks.workspace import locate, locate_prior


def check_pipeline(recipe: PipelineRecipe, workspace: str, projector: ProjectorName = "matrix") -> None:
    """Refuse studies whose parts do not fit together.

    Raises:
        UserError: if a measurement, a network or a prior is for other images; names the study.
        MissingPackage: if the projector needs one that is not installed.
        StoreNotFound: if a prior or a data set is not there; names those that are.
    """
    for training in recipe.trainings:
        require_shared(workspace)
        try:
            _check_training(training, training.ingest[0].image)
        except UserError as error:
            raise UserError(f"training {training.train.name}: {error}") from error
    for study in recipe.studies:
        try:
            if study.training is not None:
                require_shared(workspace)
            image = _image(study, workspace)
            require_fit(study.simulation.measurement, image, projector)
            _check_methods(study)
            _check_models(recipe, study, image, workspace)
            if study.training is not None:
                _check_training(study.training, image)
        except UserError as error:
            raise UserError(f"study {study.name}: {error}") from error


def require_shared(workspace: str) -> None:
    """Refuse to train in a workspace that processes cannot share.

    Raises:
        UserError: saying what to use instead.
    """
    if is_in_memory(workspace):
        raise UserError(
            f"workspace={workspace} lies in the memory of one process, and a training has processes of its own: "
            "use a folder or a bucket as workspace"
        )


def require_fit(measurement: AnyMeasurement, image: ImageContract, projector: ProjectorName = "matrix") -> None:
    """Refuse a measurement of other images.

    Raises:
        UserError: saying which images were wanted, or which option of the measurement asks too much of them.
        MissingPackage: if the projector's package is not installed.
    """
    if measurement.modality != image.modality:
        raise UserError(
            f"measurement.kind={measurement.kind!r} is for {measurement.modality} images, but these are "
            f"{image.modality}: choose another measurement or data set"
        )
    context = measurement.context(image.size, Noise(0, [""]))
    measurement.operator(image.size, context, n_channels=image.n_channels).with_projector(projector)
    if isinstance(measurement.noise, PoissonNoise):
        image.attenuation_per_pixel()


def _image(study: Study, workspace: str) -> ImageContract:
    if study.ingest is not None:
        return study.ingest.image
    return DatasetStore.open(locate(workspace, study.dataset, "datasets")).contract


def _check_methods(study: Study) -> None:
    measurement = study.simulation.measurement
    for number, choice in enumerate(study.reconstructions):
        if isinstance(choice.method, LinearInterpolation | NMAR) and not isinstance(measurement, MetalCT):
            raise UserError(
                f"reconstructions.{number}.method.kind={choice.method.kind!r} completes what metal hides, but "
                f"measurement.kind={measurement.kind!r} has no metal: take metal_ct, or another method"
            )


def _check_models(recipe: PipelineRecipe, study: Study, image: ImageContract, workspace: str) -> None:
    for choice in study.reconstructions:
        if not choice.prior:
            continue
        if training := recipe.training_of(study, choice.prior):
            train = training.train
            contract = contract_of(train, train.model_image(training.ingest[0].image))
        else:
            _, contract = load(locate_prior(workspace, choice.prior))
        require_match(contract, image, method=choice.method, measurement=study.simulation.measurement)


def _check_training(training: Training, image: ImageContract) -> None:
    first = training.ingest[0].image
    if reason := contract_of(training.train, first).mismatch(image):
        raise UserError(f"training.ingest.0.image: {reason}")
    for number, recipe in enumerate(training.ingest):
        for field in ("modality", "size", "low", "high"):
            theirs, ours = getattr(recipe.image, field), getattr(first, field)
            if theirs != ours:
                raise UserError(
                    f"training.ingest.{number}.image.{field}={theirs} but training.ingest.0.image.{field}={ours}: "
                    "a prior is trained on images of one grid and of its own values"
                )
    multiple, objective = training.train.network.size_multiple, training.train.objective
    own = training.train.model_image(first)
    if isinstance(training.train.network, ReconstructorSpec):
        training.train.network.require(own)
    sizes = objective.sizes(own) if isinstance(objective, Denoising) else (own.size,)
    if size := next((one for one in sizes if one % multiple), 0):
        raise UserError(
            f"for training.train.network the size of images and of crops must be a multiple of {multiple}, got {size}: "
            "take fewer channel_multipliers, a smaller patch, or another size"
        )
