"""Checkpoints to resume from, and weights to publish; both without pickled code.

What is published of a model is its ``network``; the rest of it follows from its contract.
"""

import io
from typing import Any, TypeVar

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from scoreinv.contract import ImageContract
from scoreinv.denoiser import AnyPreconditioning, ScoreModel
from scoreinv.errors import UserError
from scoreinv.nets import AnyNetwork
from scoreinv.reconstructors import AnyModel
from scoreinv.training.best import Best
from scoreinv.training.loop import TrainState
from scoreinv.training.objectives import MODEL, AnyObjective

ModelT = TypeVar("ModelT", bound=nn.Module)

COARSE = "coarse."
"""What the names of a coarse part's weights begin with."""


def build_models(
    objective: AnyObjective, network: AnyModel, image: ImageContract, *, seed: int = 0
) -> dict[str, nn.Module]:
    """The new models of an objective with weights drawn from ``seed``, in channels-last layout.

    The layout of a convolution's weights decides that of its output, so that images need not be converted.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        models = objective.build(network, image)
    return {name: _channels_last(model) for name, model in models.items()}


def build_model(
    network: AnyNetwork,
    preconditioning: AnyPreconditioning,
    *,
    n_channels: int = 1,
    size: int | None = None,
    seed: int = 0,
) -> ScoreModel:
    """A new score model, made as ``build_models`` makes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ScoreModel(network.build(n_channels, n_channels), preconditioning, size=size)
    return _channels_last(model)


def _channels_last(model: ModelT) -> ModelT:
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def checkpoint_bytes(state: TrainState, recipe_digest: str) -> bytes:
    """The whole training state, loadable without running code."""
    buffer = io.BytesIO()
    torch.save(
        {
            "recipe": recipe_digest,
            "images_seen": state.images_seen,
            "images_before": state.images_before,
            "models": {name: model.state_dict() for name, model in state.models.items()},
            "emas": [ema.model.state_dict() for ema in state.emas],
            "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
            **({"best": state.best._asdict()} if state.best else {}),
        },
        buffer,
    )
    return buffer.getvalue()


def restore(state: TrainState, data: bytes, recipe_digest: str) -> None:
    """Put a checkpoint's content into a state that was made from the same recipe.

    Raises:
        ValueError: if the checkpoint belongs to another recipe.
    """
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if content["recipe"] != recipe_digest:
        raise UserError(f"the checkpoint is of recipe {content['recipe']}, not {recipe_digest}: train elsewhere")
    # Before there were several models and averages.
    models = content.get("models") or {MODEL: content["model"]}
    optimizers = content.get("optimizers") or {MODEL: content["optimizer"]}
    for name, model in state.models.items():
        model.load_state_dict(models[name])
        _load_optimizer(state.optimizers[name], optimizers[name])
    for ema, saved in zip(state.emas, content.get("emas") or [content["ema"]], strict=True):
        ema.model.load_state_dict(saved)
    state.images_seen = content["images_seen"]
    state.images_before = content["images_before"]
    state.best = Best(**content["best"]) if "best" in content else None


def _load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """A state that was perhaps saved on another device, where the optimiser and its tensors' layout are others."""
    for mine, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        theirs["fused"] = mine["fused"]
    optimizer.load_state_dict(saved)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                # A fused optimiser takes no other layout than the parameter's.
                values[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)


def go_on_from(state: TrainState, weights: bytes, images_seen: int) -> None:
    """Put published weights, which have seen so many images, into a fresh state.

    Raises:
        ValueError: if they are of another network.
    """
    try:
        for model in (state.model, *(ema.model for ema in state.emas)):
            _load_network(model, weights)
    except RuntimeError as error:
        raise UserError(f"the weights to go on from are of another network than the recipe's: {error}") from error
    state.images_seen = state.images_before = images_seen


def weights_bytes(model: nn.Module, *, dtype: torch.dtype = torch.float32) -> bytes:
    """The weights of the network and of a coarse part as safetensors; ``dtype`` is that of parameters alone."""
    return save_safetensors(
        {
            prefix + name: (value.to(dtype) if name in parameters else value).cpu().contiguous()
            for prefix, network in _networks(model).items()
            for parameters in [{name for name, _ in network.named_parameters()}]
            for name, value in network.state_dict().items()
        }
    )


def load_weights(model: ModelT, data: bytes) -> ModelT:
    """The model with published weights, ready to use: float32, evaluation mode, no gradients."""
    _load_network(model, data)
    return model.eval().requires_grad_(False)


def _load_network(model: nn.Module, data: bytes) -> None:
    """Weights of a coarse part are left out where the model has none: a training goes on with the fine network."""
    state = {name: value.float() for name, value in load_safetensors(data).items()}
    for prefix, network in _networks(model).items():
        mine = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        network.load_state_dict({name: value for name, value in mine.items() if not name.startswith(COARSE)})


def _networks(model: nn.Module) -> dict[str, nn.Module]:
    """The networks of a model by what their weights' names begin with."""
    networks = {"": model.get_submodule("network")}
    if isinstance(model, ScoreModel) and model.coarse is not None:
        networks[COARSE] = model.coarse.network
    return networks
