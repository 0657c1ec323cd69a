"""The folder that goes to the machine with the GPU, and the one that comes back.

    PACKED   plan.json, images.npz, perhaps weights-0.safetensors ..., scoreinv/, benchmarks/gpu/
    RESULT   results.jsonl, trained.json, weights-0.safetensors ...

Images are whole numbers from 0 to ``LEVELS``, far finer than the least noise that a prior is trained on, as differences
from the neighbour to the left, low bytes apart from high ones: so they compress best of what was tried. Weights are cut
into files of at most ``FILE_BYTES``, and stored as bfloat16 where there would be more than ``MOST_FILES`` of them.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save, save_file
from torch import Tensor
from torch.nn import functional as F

from scoreinv.contract import ImageContract
from scoreinv.methods import AnyMethod
from scoreinv.nets import AnyNetwork
from scoreinv.operators import AnyMeasurement
from scoreinv.spec import Json, Spec
from scoreinv.training.augment import Augmentation
from scoreinv.training.integers import Integers
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import Denoising

LEVELS = 1000
FILE_BYTES = int(15.5 * 2**20)
MOST_FILES = 6


class Plan(Spec):
    """What a run does, as ``pack`` takes it from a training's recipe and from the presets."""

    image: ImageContract
    network: AnyNetwork
    objective: Denoising
    training: TrainSpec
    augmentation: Augmentation
    measurement: AnyMeasurement
    methods: dict[str, AnyMethod]
    """The presets, by their names."""
    recipe: dict[str, Json]
    """Of the training: what is published of a result needs its texts and its digest."""
    initial_seen: int = Field(0, ge=0)
    """Images that the weights which are packed have seen."""
    slices: tuple[str, ...] = ()
    """Checksums of the slices that are packed, and of those that the packed weights have seen."""


class Trained(Spec):
    """What the weights of a result are."""

    images_seen: int
    half_life: int
    device: str
    n_images: int
    """Different ones that were trained on."""
    recipe: dict[str, Json]
    image: ImageContract
    slices: tuple[str, ...] = ()


class Images(NamedTuple):
    """To train on, with their chances (n,), and of people who are held out (m, 1, size, size), float32."""

    train: Integers
    weights: Tensor
    held_out: Tensor


def read_plan(folder: Path) -> Plan:
    """The plan of a packed folder."""
    return Plan.model_validate_json((folder / "plan.json").read_text())


def write_images(path: Path, train: np.ndarray, weights: np.ndarray, held_out: np.ndarray) -> None:
    """Pack images (n, side, side) in [0, 1]."""
    np.savez_compressed(path, train=_bytes_of(train), held_out=_bytes_of(held_out), weights=weights)


@lru_cache(maxsize=1)
def read_images(folder: Path, *, size: int) -> Images:
    """The images of a packed folder; those to train on may be finer than ``size``."""
    with np.load(folder / "images.npz") as file:
        train, held_out, weights = (file[name] for name in ("train", "held_out", "weights"))
    held = _whole(held_out)
    images = held.images(torch.arange(len(held.values)))
    return Images(_whole(train), torch.from_numpy(weights), F.avg_pool2d(images, images.shape[-1] // size))


def _bytes_of(images: np.ndarray) -> np.ndarray:
    """(2, n, side, side): low and high bytes of the differences d, small ones as small numbers: 2 d, or -2 d - 1."""
    differences = np.diff(np.rint(images * LEVELS).astype(np.int16), axis=-1, prepend=np.int16(0))
    folded = ((differences << 1) ^ (differences >> 15)).view(np.uint16)
    return np.stack([folded & 0xFF, folded >> 8]).astype(np.uint8)


def _whole(halves: np.ndarray) -> Integers:
    folded = halves[0] | (halves[1].astype(np.uint16) << 8)
    differences = (folded >> 1).view(np.int16) ^ -(folded & 1).view(np.int16)
    return Integers(torch.from_numpy(np.cumsum(differences, axis=-1, dtype=np.int16))[:, None], 0, LEVELS)


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Put a network's weights into files, in place of those that are there."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if sum(one.nbytes for one in tensors.values()) > MOST_FILES * FILE_BYTES:
        # Buffers are few, and some need all their digits.
        tensors = {name: one.bfloat16() if one.ndim > 1 else one for name, one in tensors.items()}
    parts = list(_parts(tensors))
    for place, part in enumerate(parts):
        save_file(part, folder / f"weights-{place}.safetensors")
    for path in folder.glob("weights-*.safetensors"):
        if int(path.stem.removeprefix("weights-")) >= len(parts):
            path.unlink()


def read_weights(folder: Path) -> bytes:
    """The weights in a folder as one piece of safetensors, float32; empty if there are none."""
    parts = [load_file(path) for path in sorted(folder.glob("weights-*.safetensors"))]
    tensors = {name: value.float() for part in parts for name, value in part.items()}
    return save(tensors) if tensors else b""


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    part, n_bytes = dict[str, Tensor](), 0
    for name, value in tensors.items():
        if part and n_bytes + value.nbytes > FILE_BYTES:
            yield part
            part, n_bytes = {}, 0
        part[name], n_bytes = value, n_bytes + value.nbytes
    yield part
