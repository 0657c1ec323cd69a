"""Trained models: the priors that ship, and models made of published weights.

``load_prior("ct-128")`` gives a denoiser (x, sigma) -> E[x0 | x] for ``scoreinv.problem.reconstruct``, and the contract
that says which images it is for. Beside this file lie the shipped weights, their contracts and their cards, which name
the training data and the licence.
"""

import hashlib
from typing import Literal

import torch
from pydantic import TypeAdapter
from safetensors.torch import load as tensors_of
from safetensors.torch import save

from scoreinv.contract import CoarsePart, Contract, ImageContract, PriorContract, in_band
from scoreinv.denoiser import AnyPreconditioning, ScoreModel
from scoreinv.errors import UserError
from scoreinv.nets import AnyNetwork
from scoreinv.reconstructors import AnyModel, Reconstructor, reconstructor_of
from scoreinv.shipped import prior_contract, prior_names, prior_weights
from scoreinv.training.checkpoint import COARSE, build_model, load_weights, weights_bytes

__all__ = ["joined", "load_prior", "model_from", "prior_contract", "prior_from", "prior_names", "require_coarse"]

Precision = Literal["float32", "bfloat16"]

Published = tuple[bytes, PriorContract]
"""Weights (safetensors) and contract."""


def load_prior(
    name: str, *, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> tuple[ScoreModel, PriorContract]:
    """A shipped prior by its name, ready to sample, and its contract.

    Args:
        name: one of ``prior_names()``.
        device: where the network runs, as "cpu" or "cuda".
        precision: of the network; images go in and come out as float32.

    Raises:
        ValueError: if no prior of this name ships (the message lists those that do), or it is damaged.
    """
    contract = prior_contract(name)
    return prior_from(prior_weights(name), contract, device=device, precision=precision), contract


def prior_from(
    weights: bytes, contract: PriorContract, *, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> ScoreModel:
    """The denoiser of published weights (safetensors), built as their contract says; arguments as ``load_prior``."""
    model = _built(contract, contract.image.size, contract.image.n_channels, precision)
    if contract.coarse is not None:
        model.coarse = _built(contract.coarse, contract.coarse.size, contract.image.n_channels, precision)
        model.coarse_share = contract.coarse.share
    return load_weights(model, weights).to(device)


def _built(part: PriorContract | CoarsePart, size: int, n_channels: int, precision: Precision) -> ScoreModel:
    network = TypeAdapter[AnyNetwork](AnyNetwork).validate_python(part.network)
    preconditioning = TypeAdapter[AnyPreconditioning](AnyPreconditioning).validate_python(part.preconditioning)
    model = build_model(network, preconditioning, n_channels=n_channels, size=size)
    model.sigma_min = part.sigma_min
    model.autocast_dtype = torch.bfloat16 if precision == "bfloat16" else None
    return model


def joined(weights: bytes, contract: PriorContract, coarse: Published, *, share: float | None = None) -> Published:
    """Weights and contract of a prior that leaves the low frequencies of its images to another one.

    Args:
        weights: of the prior.
        contract: of the prior.
        coarse: weights and contract of a prior of the low frequencies, trained with ``band``, or of one that has such a
            part already.
        share: of the low frequencies that are the other one's; the rest is the prior's own. None: half, or what it is
            for a part that there is already.

    Raises:
        UserError: if the coarse prior is of other images.
    """
    low_weights, part = _coarse_part(contract, coarse, share)
    contract = contract.model_copy(update={"coarse": part})
    own = {name: one for name, one in tensors_of(weights).items() if not name.startswith(COARSE)}
    both = save(own | {COARSE + name: one for name, one in low_weights.items()})
    # As published weights are written, so that the same ones are the same bytes.
    whole = weights_bytes(prior_from(both, contract))
    return whole, contract.model_copy(update={"sha256": hashlib.sha256(whole).hexdigest()})


def require_coarse(low: PriorContract, image: ImageContract, name: str) -> None:
    """Refuse a prior that cannot be the coarse part, or has none, for a prior of these images.

    Raises:
        UserError: saying what to train.
    """
    if low.coarse is not None and low.image == image:
        return
    wanted = in_band(image, low.image.size) if low.image.size < image.size else image
    if wanted == image or low.mismatch(wanted) or low.coarse is not None:
        raise UserError(
            f"prior {low.name!r} is not of the low frequencies of {image.size} x {image.size} pixels of "
            f"{image.pixel_mm:g} mm, for {name!r} to leave to it: train one on the same data sets with band=N, N less "
            f"than {image.size}"
        )


def _coarse_part(
    contract: PriorContract, coarse: Published, share: float | None
) -> tuple[dict[str, torch.Tensor], CoarsePart]:
    weights, low = coarse
    require_coarse(low, contract.image, contract.name)
    tensors = tensors_of(weights)
    if low.coarse is not None:
        tensors = {name.removeprefix(COARSE): one for name, one in tensors.items() if name.startswith(COARSE)}
        return tensors, low.coarse if share is None else low.coarse.model_copy(update={"share": share})
    return tensors, CoarsePart(
        size=low.image.size,
        network=low.network,
        preconditioning=low.preconditioning,
        sigma_min=low.sigma_min,
        images_seen=low.images_seen,
        share=0.5 if share is None else share,
    )


def model_from(
    weights: bytes, contract: Contract, *, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> ScoreModel | Reconstructor:
    """The prior, or the reconstructor, of published weights; as ``prior_from``."""
    if isinstance(contract, PriorContract):
        return prior_from(weights, contract, device=device, precision=precision)
    network = TypeAdapter[AnyModel](AnyModel).validate_python(contract.network)
    model = load_weights(reconstructor_of(network, contract.image), weights).to(device)
    model.autocast_dtype = torch.bfloat16 if precision == "bfloat16" else None
    return model
