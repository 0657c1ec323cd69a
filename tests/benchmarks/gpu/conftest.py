"""A training of phantoms that is small enough to be packed and run in seconds."""

from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.gpu.packing import pack
from storage.sources.phantom import PhantomSource
from tasks.recipes import TrainRecipe
from tests.tasks.trainings import RECIPE, ingested


class Packed(NamedTuple):
    """A packed folder, and what it was packed of."""

    folder: Path
    workspace: str
    recipe: TrainRecipe


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Four phantoms of 6 slices, of whom one is held out, twice as fine as the network's grid."""
    workspace = tmp_path_factory.mktemp("gpu")
    ingested(str(workspace / "datasets" / "phantoms"), PhantomSource(n_slices=6, size=32, pixel_mm=10.0))
    training = RECIPE.training.model_copy(update={"more_half_lives": (8,)})
    recipe = RECIPE.model_copy(update={"training": training, "shares": (1.0,)})
    folder = workspace / "packed"
    pack(recipe, str(workspace), folder, is_fine=True)
    return Packed(folder, str(workspace), recipe)
