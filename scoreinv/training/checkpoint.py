"""Checkpoints to resume from, and weights to publish; both without pickled code."""

import io

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from scoreinv.denoiser import AnyPreconditioning, ScoreModel
from scoreinv.errors import UserError
from scoreinv.nets import AnyNetwork
from scoreinv.training.loop import TrainState


def build_model(network: AnyNetwork, preconditioning: AnyPreconditioning, *, seed: int = 0) -> ScoreModel:
    """A new score model with weights drawn from ``seed``, in channels-last layout.

    The layout of a convolution's weights decides that of its output, so that images need not be converted.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ScoreModel(network.build(), preconditioning)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def checkpoint_bytes(state: TrainState, recipe_digest: str) -> bytes:
    """The whole training state, loadable without running code."""
    buffer = io.BytesIO()
    torch.save(
        {
            "recipe": recipe_digest,
            "images_seen": state.images_seen,
            "images_before": state.images_before,
            "model": state.model.state_dict(),
            "ema": state.ema.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
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
    state.model.load_state_dict(content["model"])
    state.ema.model.load_state_dict(content["ema"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.images_seen = content["images_seen"]
    state.images_before = content["images_before"]


def go_on_from(state: TrainState, weights: bytes, images_seen: int) -> None:
    """Put published weights, which have seen so many images, into a fresh state.

    Raises:
        ValueError: if they are of another network.
    """
    try:
        for model in (state.model, state.ema.model):
            model.network.load_state_dict({name: value.float() for name, value in load_safetensors(weights).items()})
    except RuntimeError as error:
        raise UserError(f"the weights to go on from are of another network than the recipe's: {error}") from error
    state.images_seen = state.images_before = images_seen


def weights_bytes(model: ScoreModel, *, dtype: torch.dtype = torch.float32) -> bytes:
    """The network's weights as safetensors; ``dtype`` is for the parameters, buffers keep theirs."""
    parameters = {name for name, _ in model.network.named_parameters()}
    state = {
        name: (value.to(dtype) if name in parameters else value).cpu().contiguous()
        for name, value in model.network.state_dict().items()
    }
    return save_safetensors(state)


def load_weights(model: ScoreModel, data: bytes) -> ScoreModel:
    """The model with published weights, ready to sample: float32, evaluation mode, no gradients."""
    state = {name: value.float() for name, value in load_safetensors(data).items()}
    model.network.load_state_dict(state)
    return model.eval().requires_grad_(False)
