"""A benchmark is a pipeline of one study for each measurement, with every method of the paper where none is named."""

import pytest

from scoreinv.modality import Modality
from tasks.benchmark import BenchmarkRecipe, name_of
from tasks.planning.presets import PAPER, PRESETS

CT = {"modality": "ct", "size": 32, "pixel_mm": 10, "low": -1000, "high": 1000}
INGEST = {"source": {"kind": "phantom"}, "image": CT}
VIEWS = {"kind": "sparse_view_ct", "n_views": 23}
COLUMNS = {"kind": "cartesian_mri", "acceleration": 8}
MEASUREMENTS: dict[Modality, dict[str, object]] = {"ct": VIEWS, "mri": COLUMNS}
RECONSTRUCTOR = {
    "ingest": [INGEST],
    "train": {
        "name": "unrolled-23",
        "datasets": ["ingested"],
        "network": {"kind": "unrolled"},
        "objective": {"kind": "supervised", "measurement": VIEWS},
    },
}
OWN_PRIOR = {"ingest": [INGEST], "train": {"name": "own", "datasets": ["ingested"]}}


@pytest.mark.parametrize("modality", MEASUREMENTS)
def test_without_names_it_compares_every_method_of_the_paper(modality: Modality) -> None:
    simulation = {"measurement": MEASUREMENTS[modality]}
    recipe = BenchmarkRecipe.model_validate({"dataset": "datasets/a", "simulations": [simulation], "prior": "x"})
    kinds = [one.method.kind for one in recipe.methods()]
    assert kinds[0] == "direct"
    assert set(kinds) == {
        *("direct", "cgls", "tv", "wavelet", "dpir"),
        *PAPER[modality],
        *("projection", "bregman"),
    }
    assert len(kinds) == len(set(kinds))
    assert recipe.methods()[-1].method == PRESETS[modality]["balanced"].method
    assert {one.prior for one in recipe.methods() if one.method.needs == "prior"} == {"x"}


def test_of_metal_it_compares_what_is_taken_there() -> None:
    simulation = {"measurement": {"kind": "metal_ct"}}
    recipe = BenchmarkRecipe.model_validate({"dataset": "datasets/a", "simulations": [simulation], "prior": "ct-256"})
    kinds = [one.method.kind for one in recipe.methods()]
    assert kinds == ["direct", "li", "nmar", "tv", "projection", "bregman"]


def test_reconstructors_that_are_trained_stand_before_the_preset_and_priors_do_not() -> None:
    recipe = BenchmarkRecipe.model_validate(
        {
            "ingest": INGEST,
            "simulations": [{"measurement": VIEWS}],
            "prior": "trained/own",
            "trainings": [RECONSTRUCTOR, OWN_PRIOR],
        }
    )
    *_, learned, preset = recipe.methods()
    assert (learned.method.kind, learned.prior) == ("learned", "trained/unrolled-23")
    assert preset.prior == "trained/own"
    (study,) = recipe.pipeline().studies
    assert recipe.pipeline().training_of(study, "trained/own") == recipe.trainings[1]
    assert [recipe.pipeline().training_of(study, name) for name in ("own", "ct-128", "trained")] == [None] * 3


def test_every_measurement_is_a_study_with_a_name_of_its_own() -> None:
    others = [VIEWS | {"n_views": 10}, VIEWS, VIEWS | {"noise": {"kind": "gaussian", "noise_std": 0.1}}]
    recipe = BenchmarkRecipe.model_validate(
        {
            "dataset": "datasets/a",
            "simulations": [{"measurement": one} for one in others],
            "reconstructions": [{"method": {"kind": "direct"}}, {"method": {"kind": "tv"}}],
        }
    )
    studies = recipe.pipeline().studies
    assert [one.name for one in studies] == [
        "sparse-view-ct-10-views",
        "sparse-view-ct-23-views-1",
        "sparse-view-ct-23-views-2",
    ]
    assert [one.simulation for one in studies] == list(recipe.simulations)
    assert len({one.reconstructions for one in studies}) == 1


def test_titles_become_names() -> None:
    assert name_of("MRI, 8 times faster") == "mri-8-times-faster"
