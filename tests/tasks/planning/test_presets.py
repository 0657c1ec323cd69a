"""The shipped comparisons run every method as tasks/planning/presets.py has it."""

import pytest

from flows.recipe_files import find_recipe, load_recipe
from scoreinv.contract import Modality
from tasks.planning.presets import COMPARED
from tasks.recipes import PipelineRecipe
from tasks.tuning.search_spaces import DEFAULT_SEARCH


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_a_comparison_holds_every_method_with_its_tuned_options(modality: Modality) -> None:
    recipe = load_recipe(PipelineRecipe, find_recipe(f"compare-{modality}-128"), [])
    assert isinstance(recipe, PipelineRecipe)
    methods = [one.method for one in recipe.studies[0].reconstructions]
    assert methods == list(COMPARED[modality])
    assert {method.kind for method in methods} == {"direct", *DEFAULT_SEARCH}
