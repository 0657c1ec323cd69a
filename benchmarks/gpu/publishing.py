"""A prior of what a run has trained, in a workspace, with all that a training publishes.

    python -m benchmarks.gpu publish RESULT --workspace workspace

It prints the reference, priors/DIGEST, which recipes take as ``prior`` and as ``initial``.
"""

import argparse
import hashlib
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.packed import Trained, read_weights
from benchmarks.gpu.results import rows_of
from scoreinv.spec import digest_of
from scoreinv.training.checkpoint import build_models, go_on_from
from scoreinv.training.loop import TrainState
from storage.uri import join, write_json
from tasks.recipes import TrainRecipe
from tasks.workers.training.curve import CurveRow, write_curve
from tasks.workers.training.publishing import picture_model, publish_model
from tasks.workers.training.train_job import TrainJob
from tasks.workers.training.training_images import TrainingImages
from tasks.workspace import reference


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which result, and where to."""
    parser.add_argument("result", type=Path, help="folder of a run")
    parser.add_argument("--workspace", required=True)


def main(options: argparse.Namespace) -> None:
    """Publish, and print the reference."""
    print(publish_result(options.result, options.workspace))


def publish_result(result: Path, workspace: str) -> str:
    """The reference of the prior.

    Its address follows from the recipe and from the weights, as the time that a card had decides them, too: a training
    of the same recipe does not take it for its own.
    """
    trained = Trained.model_validate_json((result / "trained.json").read_text())
    recipe, weights = TrainRecipe.model_validate(trained.recipe), read_weights(result)
    state = TrainState.fresh(build_models(recipe.objective, recipe.network, trained.image), recipe.training)
    go_on_from(state, weights, trained.images_seen)
    state.images_before = images_before(result)
    ref = reference("priors", digest_of(recipe.address(), hashlib.sha256(weights).hexdigest()))
    target = join(workspace, ref)
    write_json(join(target, "recipe.json"), recipe.model_dump(mode="json"))
    write_curve(target, curve_of(result))
    job = TrainJob(recipe=recipe, datasets=(), target=target, trunk="", device="cpu")
    nothing = torch.empty(0)
    images = TrainingImages(
        trained.image,
        torch.empty(trained.n_images, 0),
        nothing,
        nothing,
        trained.image.size,
        None,
        slices=trained.slices,
    )
    picture_model(job, state, images)
    publish_model(job, state, images)
    return ref


def curve_of(result: Path) -> list[CurveRow]:
    """The validations of a result's training."""
    fields = CurveRow.model_fields
    rows = [row for row in rows_of(result, "training") if "validation_rmse" in row]
    return [CurveRow.model_validate({name: row[name] for name in fields if name in row}) for row in rows]


def images_before(result: Path) -> int:
    """Those that the weights had seen before this run."""
    begun: list[dict[str, Any]] = [row for row in rows_of(result, "training") if "images_before" in row]
    return int(begun[-1]["images_before"]) if begun else 0
