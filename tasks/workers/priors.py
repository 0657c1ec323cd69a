"""Trained models on a worker: loaded once per process, checked against the data."""

import json
import os
import shutil
import sys
from functools import lru_cache
from importlib.util import find_spec

import torch

from scoreinv.contract import Contract, ImageContract, PriorContract, ReconstructorContract
from scoreinv.denoiser import ScoreModel
from scoreinv.errors import UserError
from scoreinv.measurement import MeasurementSpec
from scoreinv.priors import Precision, model_from
from scoreinv.problem import Method
from scoreinv.reconstructors import Reconstructor
from scoreinv.training.device import compile_networks
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
    """The prior at a URI, and its contract; as ``load_model``, but a reconstructor is refused as well."""
    model, contract = load_model(uri, device, precision, is_compiled, sha256=sha256)
    if not isinstance(model, ScoreModel) or not isinstance(contract, PriorContract):
        raise UserError(f"{uri} is a {contract.kind}, a prior is needed here: name one")
    return model, contract


def load_model(
    uri: str, device: str, precision: Precision, is_compiled: bool = False, *, sha256: str = ""
) -> tuple[ScoreModel | Reconstructor, Contract]:
    """The model at a URI (or a shipped prior by name) on a device, and its contract.

    A compiled network compiles at its first call, and once more where the batch size changes.

    Args:
        uri: of the model, or the prior's name.
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
) -> tuple[ScoreModel | Reconstructor, Contract]:
    weights, contract = load(uri, sha256=sha256)
    model = model_from(weights, contract, device=pick_device(device), precision=precision)
    if is_compiled:
        require_compiler(pick_device(device))
        compile_networks(model.network)
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


def require_match(
    contract: Contract,
    image: ImageContract,
    *,
    method: Method | None = None,
    measurement: MeasurementSpec | None = None,
) -> None:
    """Refuse data that a model cannot read, and a method that needs another kind of model.

    Raises:
        ValueError: saying what differs and what to do.
    """
    if method is not None and method.needs not in ("nothing", contract.kind):
        kind = dict(method)["kind"]
        raise UserError(
            f"method {kind!r} needs a {method.needs}, but {contract.name!r} is a {contract.kind}: change one"
        )
    if reason := contract.mismatch(image):
        raise UserError(reason)
    if measurement is None or not isinstance(contract, ReconstructorContract) or contract.is_of_kind(measurement):
        return
    other = contract.other_measurement(measurement)
    raise UserError(f"{other}: measure the data so, or train a reconstructor for them")


def elsewhere(contract: Contract, measurement: MeasurementSpec) -> str:
    """What to say of a reconstructor that is used on data of another measurement of its kind; empty: nothing."""
    other = contract.other_measurement(measurement) if isinstance(contract, ReconstructorContract) else None
    return f"{other}: it may do worse than its card says" if other else ""


def image_contract(attrs: dict[str, object]) -> ImageContract:
    """The image contract that a store keeps in its attributes."""
    return ImageContract.model_validate_json(json.dumps(attrs["image"]))
