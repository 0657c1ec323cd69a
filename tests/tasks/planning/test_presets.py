"""The shipped comparisons run every method as tasks/planning/presets.py has it."""

import pytest

from flows.recipe_files import find_recipe, load_recipe
from scoreinv.contract import Modality
from scoreinv.measurement import AnyNoise, GaussianNoise, Noiseless, PoissonNoise
from tasks.planning.presets import COMPARED, noise_note
from tasks.recipes import PipelineRecipe
from tasks.tuning.search_spaces import DEFAULT_SEARCH


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_a_comparison_holds_every_method_with_its_tuned_options(modality: Modality) -> None:
    recipe = load_recipe(PipelineRecipe, find_recipe(f"compare-{modality}-128"), [])
    assert isinstance(recipe, PipelineRecipe)
    methods = [one.method for one in recipe.studies[0].reconstructions]
    assert methods == list(COMPARED[modality])
    assert {method.kind for method in methods} == {"direct", *DEFAULT_SEARCH}


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        (Noiseless(), ""),
        (PoissonNoise(n_photons=1e4), ""),
        (PoissonNoise(n_photons=3e3), "presets were tried with 10000 photons and more"),
        (GaussianNoise(noise_std=0.03), ""),
        (GaussianNoise(noise_std=0.1), "presets were tried up to noise_std=0.03"),
    ],
)
def test_noise_beyond_what_was_tried_is_told(noise: AnyNoise, said: str) -> None:
    assert noise_note(noise).startswith(said)
    assert bool(noise_note(noise)) == bool(said)
