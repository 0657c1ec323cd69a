"""What a run on another machine needs, in one folder.

    python -m benchmarks.gpu pack mri-240.yaml --workspace workspace --to PACKED --every 2 training.batch_size=64

The recipe is one of ``scoreinv train``; its data sets, held-out people, chances and weights to go on from are those of
the training. Images are taken on the network's own grid unless ``--fine`` wants those that are finer, four times as
large at least; moved images are then interpolated by cubics, as lines would blur them.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.torch import load as load_tensors

import benchmarks.gpu
import scoreinv
from benchmarks.calls import MEASUREMENTS
from benchmarks.gpu.packed import Plan, write_images, write_weights
from flows.recipe_files import find_recipe, load_recipe
from scoreinv.contract import ImageContract, PriorContract
from scoreinv.errors import UserError
from scoreinv.training.data import balanced_weights
from scoreinv.training.objectives import Denoising
from storage.datasets import DatasetStore
from storage.models import load
from tasks.planning.presets import PRESETS
from tasks.recipes import TrainRecipe
from tasks.workspace import locate, locate_prior

N_HELD_OUT = 64
PRESET_NAMES = ("fast", "balanced")


class Chosen(NamedTuple):
    """Images (n, side, side) of a data set to train on with their chances, and of people who are held out."""

    train: np.ndarray
    weights: np.ndarray
    held_out: np.ndarray
    slices: list[str]
    """Checksums of those to train on, where they are known."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """What to pack, and where to."""
    parser.add_argument("recipe", help="of a training: a YAML file, or the name of one that ships")
    parser.add_argument("--workspace", required=True, help="that holds its data sets")
    parser.add_argument("--to", type=Path, required=True, metavar="PACKED", help="a new folder")
    parser.add_argument("--every", type=int, default=1, help="take each N-th image to train on (default: %(default)s)")
    parser.add_argument("--fine", action="store_true", help="take the finer images of the data sets")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="of the recipe, as training.batch_size=64")


def main(options: argparse.Namespace) -> None:
    """Pack, and say how large it is."""
    recipe = load_recipe(TrainRecipe, find_recipe(options.recipe), options.changes)
    pack(recipe, options.workspace, options.to, every=options.every, is_fine=options.fine)
    images = (options.to / "images.npz").stat().st_size
    total = sum(path.stat().st_size for path in options.to.rglob("*") if path.is_file())
    print(f"{options.to}: {total / 2**20:.1f} MiB, of which images {images / 2**20:.1f}")


def pack(recipe: TrainRecipe, workspace: str, to: Path, *, every: int = 1, is_fine: bool = False) -> None:
    """Put all into a folder, in place of what another packing left there.

    Raises:
        UserError: if the recipe trains no prior of images with one channel.
    """
    stores = [DatasetStore.open(locate(workspace, one, "datasets")) for one in recipe.datasets]
    contract = stores[0].contract
    if not isinstance(recipe.objective, Denoising) or contract.n_channels != 1:
        raise UserError("what is packed is the training of a prior of images with one channel: take another recipe")
    weights, initial = load(locate_prior(workspace, recipe.initial)) if recipe.initial else (b"", None)
    if recipe.band or recipe.coarse or (isinstance(initial, PriorContract) and initial.coarse):
        raise UserError("what is packed is the training of whole images alone: leave out band, coarse and coarse parts")
    to.mkdir(parents=True, exist_ok=True)
    if initial is not None:
        write_weights(to, load_tensors(weights))
    chosen = [_chosen(store, recipe.validation_subjects, recipe.balance_power, every, is_fine) for store in stores]
    plan = _plan(recipe, contract, is_fine=is_fine, initial_seen=initial.images_seen if initial else 0)
    slices = {*(initial.slices if initial else ()), *(checksum for one in chosen for checksum in one.slices)}
    plan = plan.model_copy(update={"slices": tuple(sorted(slices))})
    (to / "plan.json").write_text(plan.model_dump_json(indent=1) + "\n")
    shares = recipe.shares or tuple(len(one.train) for one in chosen)
    write_images(
        to / "images.npz",
        np.concatenate([one.train for one in chosen]),
        np.concatenate([share * one.weights for share, one in zip(shares, chosen, strict=True)]),
        _spread(np.concatenate([one.held_out for one in chosen]), N_HELD_OUT),
    )
    copy_code(to)


def _plan(recipe: TrainRecipe, image: ImageContract, *, is_fine: bool, initial_seen: int) -> Plan:
    augmentation = recipe.augmentation
    if not is_fine:
        augmentation = augmentation.model_copy(update={"interpolation": "bicubic"})
    presets = PRESETS[image.modality]
    return Plan(
        image=image,
        network=recipe.network,
        objective=recipe.objective,
        training=recipe.training,
        augmentation=augmentation,
        measurement=MEASUREMENTS[image.modality],
        methods={name: presets[name].method for name in PRESET_NAMES},
        recipe=recipe.model_dump(mode="json"),
        initial_seen=initial_seen,
    )


def _chosen(store: DatasetStore, held_out: Sequence[str], power: float, every: int, is_fine: bool) -> Chosen:
    read = store.fine_images if is_fine else store.images
    subjects = np.array([record.subject_id for record in store.records])
    is_out = np.isin(subjects, held_out)
    places = np.flatnonzero(~is_out)[::every]
    shards = [(shard.start, read(shard.start, shard.stop)) for shard in store.shards.plan()]
    train = [images[np.isin(np.arange(start, start + len(images)), places)] for start, images in shards]
    out = [images[is_out[start : start + len(images)]] for start, images in shards]
    weights = np.asarray(balanced_weights(subjects[places].tolist(), power=power))
    slices = [store.records[place].checksum for place in places if store.records[place].checksum]
    return Chosen(np.concatenate(train), weights, np.concatenate(out), slices)


def _spread(images: np.ndarray, n: int) -> np.ndarray:
    """At most so many, spread evenly."""
    return images if len(images) <= n else images[np.linspace(0, len(images) - 1, n).round().astype(int)]


def copy_code(to: Path) -> None:
    """The library without the weights that ship, and this benchmark."""
    unwanted = shutil.ignore_patterns("*.safetensors", "__pycache__", "data")
    for package, folder in ((scoreinv, "scoreinv"), (benchmarks.gpu, "benchmarks/gpu")):
        shutil.rmtree(to / folder, ignore_errors=True)
        assert package.__file__ is not None
        shutil.copytree(Path(package.__file__).parent, to / folder, ignore=unwanted)
