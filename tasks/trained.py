"""Where the prior of a training lies, and whether it is there.

Without Prefect, so that a command sees quickly whether there is anything to do (``tasks/finished.py``).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from scoreinv.contract import PriorContract
from scoreinv.errors import UserError
from scoreinv.priors import require_coarse
from scoreinv.spec import digest_of
from scoreinv.training.best import mean_log
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import Denoising
from storage.datasets import DatasetStore
from storage.errors import StoreError
from storage.models import load, read_contract
from storage.uri import join, size_of
from tasks.recipes import TrainRecipe
from tasks.workers.training.curve import read_curve
from tasks.workspace import locate, locate_prior, reference, subjects_of


class Origin(NamedTuple):
    """The weights that a training goes on from, and the prior that gives the coarse part; empty texts for none."""

    initial: str
    initial_sha256: str
    coarse: str
    coarse_sha256: str


def origin_of(recipe: TrainRecipe, workspace: str) -> Origin:
    """Where the priors lie that a training begins with.

    Raises:
        StoreNotFound: if there is no such prior.
        UserError: if the weights to go on from have seen as many images as this training is to see, or the coarse part
            is for other images.
    """
    initial = locate_prior(workspace, recipe.initial)
    initial_sha256 = require_more_images(initial, recipe) if initial else ""
    return Origin(initial, initial_sha256, *coarse_part(recipe, workspace))


def of_prior(recipe: TrainRecipe, origin: Origin) -> str:
    """The reference of what a recipe trains, whose people are called as the data sets call them."""
    coarse = origin.coarse_sha256 if recipe.coarse else ""
    return reference("priors", recipe.address(origin.initial_sha256, coarse))


def require_more_images(initial: str, recipe: TrainRecipe) -> str:
    """The sha256 of the weights to go on from, which have seen fewer images than the training is to see."""
    contract, n_images = read_contract(initial), recipe.training.n_images
    if contract.images_seen >= n_images:
        raise UserError(
            f"initial={recipe.initial} has seen {contract.images_seen} images, and training.n_images={n_images} counts "
            "these: raise it to that number and the images to come"
        )
    return contract.sha256


def coarse_part(recipe: TrainRecipe, workspace: str) -> tuple[str, str]:
    """The prior that gives the coarse part of what is published, and the sha256 of its weights; empty if there is none.

    It is the one that the recipe names, or the one to go on from, if that has such a part and the images are the same.

    Raises:
        UserError: if the recipe names one that is not of the low frequencies of the images to train on.
    """
    uri = locate_prior(workspace, recipe.coarse or recipe.initial)
    contract = read_contract(uri) if uri else None
    if contract is None:
        return "", ""
    image = DatasetStore.open(locate(workspace, recipe.datasets[0], "datasets")).contract
    if recipe.coarse:
        if not isinstance(contract, PriorContract) or not isinstance(recipe.objective, Denoising):
            raise UserError(f"coarse={recipe.coarse} is for priors, of priors: leave it out")
        require_coarse(contract, image, recipe.name)
        return uri, contract.sha256
    has_part = isinstance(contract, PriorContract) and contract.coarse is not None and contract.image == image
    return (uri, contract.sha256) if has_part else ("", "")


def with_subjects_as_known(recipe: TrainRecipe, workspace: str) -> TrainRecipe:
    """What is kept of the recipe, and its address, name people as the data sets do: perhaps by hashes.

    A share of the people has become their names, so that a recipe that names the same people is the same training.
    """
    if not recipe.validation_subjects and not recipe.validation_share:
        return recipe
    datasets = [locate(workspace, one, "datasets") for one in recipe.datasets]
    named = subjects_of(workspace, datasets, recipe.validation_subjects)
    known = {subject for uri in datasets for subject in DatasetStore.open(uri).listing.subjects()}
    chosen = share_of(sorted(known - set(named)), recipe.validation_share)
    return recipe.model_copy(update={"validation_subjects": (*named, *chosen), "validation_share": 0.0})


def share_of(subjects: Sequence[str], share: float) -> tuple[str, ...]:
    """A share of the subjects, rounded up and sorted: those whose names have the lowest digests.

    Somebody who joins changes at most who is next to the border.
    """
    n = math.ceil(share * len(subjects) - 1e-9)
    return tuple(sorted(sorted(subjects, key=digest_of)[:n]))


def is_trained(target: str, recipe: TrainRecipe) -> bool:
    """Whether the prior in a folder is whole, has seen its images and says of itself what the recipe says."""
    prior = join(target, "prior")
    try:
        _, contract = load(prior)
    except StoreError:
        return False
    texts = (contract.name, tuple(contract.training_data), contract.licence)
    has_texts = texts == (recipe.name, recipe.training_data, recipe.licence) and bool(size_of(join(prior, "card.md")))
    return has_texts and _has_seen(target, contract.images_seen, recipe.training)


def _has_seen(target: str, images_seen: int, training: TrainSpec) -> bool:
    """Whether a model that has seen so many images is the last that its training publishes.

    The best one may be from before the end; then the curve has got to the end, and none of its rows is better.
    """
    if images_seen >= training.n_images or not training.keeps_best:
        return images_seen >= training.n_images
    rows = [row for row in read_curve(target) if row.validation_rmse]
    is_over = bool(rows) and rows[-1].images_seen >= training.n_images
    return is_over and min(rows, key=lambda row: mean_log(row.validation_rmse)).images_seen == images_seen
