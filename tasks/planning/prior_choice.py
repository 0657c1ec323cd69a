"""Which prior serves which images: of those that fit, the one whose window and field of view come nearest."""

import math
from typing import NamedTuple

from scoreinv.contract import ImageContract, PriorContract
from scoreinv.errors import UserError
from scoreinv.shipped import prior_contract, recipes_folder
from storage.errors import StoreNotFound
from storage.fingerprint import Fingerprint
from storage.models import read_contract, shipped
from storage.uri import join, list_names
from tasks.workspace import locate_prior

MAX_WIDTH_RATIO = 1.5
"""Fields of view further apart hold other body parts, or these at another size."""

SIZE_MULTIPLE = 16
"""Sides of images that are open to choice are multiples of this: networks halve them again and again."""

MAX_UPSAMPLING = 2.0
"""Pixels more than this much finer than those of the images would hold no detail."""

TRAINING = (
    "Train one on images like these: copy {folder}/prior-{example}.yaml, name your images under "
    "training.ingest and their grid under image, and run `scoreinv pipeline` on it"
)


class Choice(NamedTuple):
    """A prior by the name that recipes use, and the names of the others that fit as well."""

    name: str
    contract: PriorContract
    others: tuple[str, ...]


def known_priors(workspace: str) -> dict[str, PriorContract]:
    """The priors that ship, and those trained in a workspace, by the names that recipes use."""
    names = [*shipped(), *(f"priors/{digest}" for digest in list_names(join(workspace, "priors")))]
    found = {name: _contract(workspace, name) for name in names}
    return {name: contract for name, contract in found.items() if contract is not None}


def choose_prior(priors: dict[str, PriorContract], images: Fingerprint, wanted: ImageContract | None) -> Choice:
    """The prior that serves images best; ``wanted`` is their grid and values where those are fixed already.

    Raises:
        ValueError: if none fits; says of each why, and how one is trained.
    """
    reasons = {name: misfit(contract, images, wanted) for name, contract in priors.items()}
    fitting = [name for name, reason in reasons.items() if reason is None]
    if not fitting:
        known = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UserError(
            f"no prior fits these {images.modality} images ({known or 'there is none at all'}). "
            + TRAINING.format(folder=recipes_folder(), example=_example(images.modality))
        )
    best, *others = sorted(fitting, key=lambda name: _distance(priors[name], images))
    return Choice(best, priors[best], tuple(others))


def misfit(contract: PriorContract, images: Fingerprint, wanted: ImageContract | None) -> str | None:
    """Why a prior cannot serve images, in a few words; None if it can."""
    if wanted is not None:
        return contract.mismatch(wanted)
    image = grid_for(contract, images)
    if image.modality != images.modality:
        return f"it is for {image.modality}"
    width, native_width, pixel = image.size * image.pixel_mm, images.width_mm[1], images.pixel_mm[1]
    if _width_ratio(image, images) > MAX_WIDTH_RATIO:
        return f"its field of view is {width:.0f} mm wide, these are {native_width:.0f} mm"
    if pixel / image.pixel_mm > MAX_UPSAMPLING:
        return f"its pixels are {image.pixel_mm:g} mm, these are {pixel:.3g} mm"
    return None


def _example(modality: str) -> str:
    """The finest prior that ships for a modality, or, where none does, for another."""
    images = {name: prior_contract(name).image for name in shipped()}
    return max(images, key=lambda name: (images[name].modality == modality, images[name].size))


def grid_for(contract: PriorContract, images: Fingerprint) -> ImageContract:
    """The grid to bring images to: the prior's own, or that of the served size whose field of view is like theirs."""
    image = contract.image
    if _width_ratio(image, images) <= MAX_WIDTH_RATIO:
        return image
    least, most = contract.served_sizes()
    wanted = math.ceil(images.width_mm[1] / image.pixel_mm / SIZE_MULTIPLE) * SIZE_MULTIPLE
    return image.model_copy(update={"size": min(max(wanted, least), most)})


def _width_ratio(image: ImageContract, images: Fingerprint) -> float:
    """Of the fields of view, the wider one's to the other's."""
    return math.exp(abs(math.log(image.size * image.pixel_mm / images.width_mm[1])))


def _distance(contract: PriorContract, images: Fingerprint) -> tuple[float, ...]:
    """By what is lost, then by how alike the fields of view are, then by detail, then by training."""
    image = grid_for(contract, images)
    percent_outside = round(100 * images.share_outside(image.low, image.high))
    return percent_outside, round(10 * math.log(_width_ratio(image, images))), -image.size, -contract.images_seen


def named_prior(workspace: str, name: str) -> PriorContract:
    """The contract of a prior by the name that recipes use.

    Raises:
        StoreNotFound: if there is no such prior.
        UserError: if it is a reconstructor, which serves one measurement alone.
    """
    contract = read_contract(locate_prior(workspace, name))
    if not isinstance(contract, PriorContract):
        raise UserError(f"{name} is a {contract.kind}, and the methods of a plan need a prior: name one, or leave it")
    return contract


def _contract(workspace: str, name: str) -> PriorContract | None:
    try:
        return named_prior(workspace, name)
    except (StoreNotFound, UserError):
        # A training that has not yet published, or a reconstructor.
        return None
