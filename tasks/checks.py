"""What can be known to be wrong with a pipeline before anything is computed."""

from scoreinv.contract import ImageContract
from scoreinv.operators import AnyMeasurement
from storage.datasets import DatasetStore
from storage.models import load
from tasks.recipes import PipelineRecipe, Study
from tasks.workers.priors import require_match
from tasks.workspace import locate, locate_prior


def check_pipeline(recipe: PipelineRecipe, workspace: str) -> None:
    """Refuse studies whose parts do not fit together.

    Raises:
        ValueError: if a measurement or a prior is for other images; names the study.
        StoreNotFound: if a prior or a data set is not there; names those that are.
    """
    for study in recipe.studies:
        try:
            image = _image(study, workspace)
            require_modality(study.simulation.measurement, image)
            _check_priors(study, image, workspace)
        except ValueError as error:
            raise ValueError(f"study {study.name}: {error}") from error


def require_modality(measurement: AnyMeasurement, image: ImageContract) -> None:
    """Refuse a measurement of other images.

    Raises:
        ValueError: saying which images were wanted.
    """
    if measurement.modality != image.modality:
        raise ValueError(
            f"measurement.kind={measurement.kind!r} is for {measurement.modality} images, but these are "
            f"{image.modality}: choose another measurement or data set"
        )


def _image(study: Study, workspace: str) -> ImageContract:
    if study.ingest is not None:
        return study.ingest.image
    return DatasetStore.open(locate(workspace, study.dataset, "datasets")).contract


def _check_priors(study: Study, image: ImageContract, workspace: str) -> None:
    for name in {choice.prior for choice in study.reconstructions} - {"", "trained"}:
        _, contract = load(locate_prior(workspace, name))
        require_match(contract, image)
