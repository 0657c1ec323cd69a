"""Trained models: the priors that ship, and models made of published weights.

``load_prior("ct-128")`` gives a denoiser (x, sigma) -> E[x0 | x] for ``scoreinv.problem.reconstruct``, and the contract
that says which images it is for. Beside this file lie the shipped weights, their contracts and their cards, which name
the training data and the licence.
"""

from typing import Literal

import torch
from pydantic import TypeAdapter

from scoreinv.contract import Contract, PriorContract
from scoreinv.denoiser import AnyPreconditioning, ScoreModel
from scoreinv.nets import AnyNetwork
from scoreinv.reconstructor import Reconstructor
from scoreinv.shipped import prior_contract, prior_names, prior_weights
from scoreinv.training.checkpoint import build_model, load_weights

__all__ = ["load_prior", "model_from", "prior_contract", "prior_from", "prior_names"]

Precision = Literal["float32", "bfloat16"]


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
    network = TypeAdapter[AnyNetwork](AnyNetwork).validate_python(contract.network)
    preconditioning = TypeAdapter[AnyPreconditioning](AnyPreconditioning).validate_python(contract.preconditioning)
    image = contract.image
    model = build_model(network, preconditioning, n_channels=image.n_channels, size=image.size)
    model = load_weights(model, weights).to(device)
    model.sigma_min = contract.sigma_min
    model.autocast_dtype = torch.bfloat16 if precision == "bfloat16" else None
    return model


def model_from(
    weights: bytes, contract: Contract, *, device: torch.device | str = "cpu", precision: Precision = "float32"
) -> ScoreModel | Reconstructor:
    """The prior, or the reconstructor, of published weights; as ``prior_from``."""
    if isinstance(contract, PriorContract):
        return prior_from(weights, contract, device=device, precision=precision)
    network = TypeAdapter[AnyNetwork](AnyNetwork).validate_python(contract.network)
    channels = contract.image.n_channels
    model = load_weights(Reconstructor(network.build(channels, channels)), weights).to(device)
    model.autocast_dtype = torch.bfloat16 if precision == "bfloat16" else None
    return model
