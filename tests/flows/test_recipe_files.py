"""Recipes with changes from the command line."""

import itertools

import pytest

from flows.recipe_files import load_recipe
from scoreinv.contract import ImageContract
from tasks.recipes import IngestRecipe

IMAGE = ImageContract(modality="mri", size=16, pixel_mm=1.5, low=0, high=1).model_dump_json()
CHANGES = ("source.kind=nifti", "source.path=scans", "source.select.every=3")


@pytest.mark.parametrize("changes", list(itertools.permutations(CHANGES)))
def test_a_kind_may_come_after_the_options_under_it(changes: tuple[str, ...]) -> None:
    recipe = load_recipe(IngestRecipe, None, [f"image={IMAGE}", *changes])
    source = recipe.model_dump(mode="json")["source"]
    assert (source["kind"], source["path"], source["select"]["every"]) == ("nifti", "scans", 3)


def test_a_kind_clears_what_a_whole_value_set_before_it() -> None:
    changes = ["source={kind: dicom, path: scans, select: {every: 3}}", "source.path=other", "source.kind=nifti"]
    source = load_recipe(IngestRecipe, None, [f"image={IMAGE}", *changes]).model_dump(mode="json")["source"]
    assert (source["kind"], source["path"], source["select"]["every"]) == ("nifti", "other", 1)
