"""Priors on a worker: loaded once per process, checked against the data."""

import json
import os
import shutil
import sys
from functools import lru_cache
from importlib.util import find_spec

import torch

from scoreinv.contract import ImageContract, PriorContract
from scoreinv.denoiser import ScoreModel
from scoreinv.errors import UserError
from scoreinv.priors import Precision, prior_from
from storage.models import load, read_contract


def pick_device(device: str) -> torch.device:
    """The device that "auto", "cpu" or "cuda" means here.

    Raises:
        ValueError: if CUDA is wanted where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device='cuda' was asked for but this machine has no usable GPU: set device to auto or cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def load_prior(
    uri: str, device: str, precision: Precision, is_compiled: bool = False, *, sha256: str = ""
) -> tuple[ScoreModel, PriorContract]:
    """The prior at a URI (or a shipped one by name) on a device, and its contract.

    A compiled network compiles at its first call, and once more where the batch size changes.

    Args:
        uri: of the prior, or its name.
        device: auto, cpu or cuda.
        precision: float32 or bfloat16.
        is_compiled: whether the network is compiled.
        sha256: of the weights that are wanted; empty: those that are published there now.

    Raises:
        ValueError: if there is no such device, or nothing to compile with.
        StoreMismatch: if those weights are no longer there.
    """
    return _loaded(uri, sha256 or read_contract(uri).sha256, device, precision, is_compiled)


# One model per process and device: loading it again for every shard would cost more than a shard. The sha256 is part of
# the key, as a training publishes under one URI again and again.
@lru_cache(maxsize=2)
def _loaded(
    uri: str, sha256: str, device: str, precision: Precision, is_compiled: bool
) -> tuple[ScoreModel, PriorContract]:
    weights, contract = load(uri, sha256=sha256)
    model = prior_from(weights, contract, device=pick_device(device), precision=precision)
    if is_compiled:
        require_compiler(pick_device(device))
        model.network.compile()
    return model, contract


def require_compiler(device: torch.device) -> None:
    """Refuse to compile for a device without the tools.

    Raises:
        ValueError: saying what to install.
    """
    advice = "or leave execution.is_compiled out"
    if device.type == "cuda" and find_spec("triton") is None:
        raise UserError(f"is_compiled=True needs the package triton on a GPU: install it, {advice}")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise UserError(f"is_compiled=True needs a C++ compiler, {compiler!r} is not there: install it, {advice}")


def require_match(contract: PriorContract, image: ImageContract) -> None:
    """Refuse data that the prior was not trained for.

    Raises:
        ValueError: saying which field differs and what to do.
    """
    reason = contract.mismatch(image)
    if reason:
        raise UserError(reason)


def image_contract(attrs: dict[str, object]) -> ImageContract:
    """The image contract that a store keeps in its attributes."""
    return ImageContract.model_validate_json(json.dumps(attrs["image"]))
