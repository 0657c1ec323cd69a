"""The benchmark flow under a real Prefect server: a model is trained once and used at every measurement."""

from pathlib import Path
from typing import Any

import pytest

from flows.benchmark import benchmark_flow
from tasks.benchmark import BenchmarkRecipe
from tasks.finished import finished
from tasks.running.cluster import Inline
from tasks.running.shards import Execution, TooManyFailures

IMAGE = {"modality": "ct", "size": 32, "pixel_mm": 10.0, "low": -1000, "high": 1000}
FEW, MORE = ({"kind": "sparse_view_ct", "n_views": n} for n in (9, 12))


def ingest(seed: int) -> dict[str, Any]:
    return {"source": {"kind": "phantom", "n_volumes": 2, "n_slices": 2, "seed": seed}, "image": IMAGE, "shard_size": 2}


RECIPE = {
    "ingest": ingest(0),
    "simulations": [{"measurement": FEW}, {"measurement": MORE}],
    "trainings": [
        {
            "ingest": [ingest(1)],
            "train": {
                "name": "few",
                "datasets": ["ingested"],
                "network": {"kind": "neumann", "n_blocks": 2, "n_features": 8},
                "objective": {"kind": "supervised", "measurement": FEW},
                "training": {"n_images": 32, "warmup_images": 0},
            },
        }
    ],
    "reconstructions": [
        {"method": {"kind": "direct"}},
        {"method": {"kind": "cgls"}},
        {"method": {"kind": "learned"}, "prior": "trained/few"},
    ],
    "n_pictures": 1,
}


@pytest.mark.usefixtures("prefect_server")
def test_a_model_is_trained_once_and_told_where_it_is_used_elsewhere(tmp_path: Path) -> None:
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    recipe = BenchmarkRecipe.model_validate(RECIPE)
    assert not finished("benchmark", recipe, str(tmp_path))
    ref = benchmark_flow(recipe, execution)
    assert finished("benchmark", recipe, str(tmp_path)) == ref
    page = (tmp_path / ref).read_text()
    assert len(list(tmp_path.glob("priors/*"))) == 1
    assert len(list(tmp_path.glob("datasets/*"))) == 2
    assert len(list(tmp_path.glob("reconstructions/*"))) == 6
    assert "sparse-view-ct-9-views" not in page, "the heading says it already"
    for text in (
        "Sparse-view CT, 9 views, 4 slices",
        "Sparse-view CT, 12 views, 4 slices",
        "Neumann network (1 call",
        "CGLS",
    ):
        assert text in page, text
    said = "reconstructor &#39;few&#39; was trained for n_views=9 but the data were measured with n_views=12"
    assert page.count(said) == 1
    assert "All methods over the number of views" in page
    assert len(list(tmp_path.glob("reports/*/curves.png"))) == 1


@pytest.mark.usefixtures("prefect_server")
def test_a_training_that_fails_stops_no_other_method(tmp_path: Path) -> None:
    """Its steps are so long that its weights are no numbers."""
    training = RECIPE["trainings"][0]
    broken = {
        **training["train"],
        "name": "broken",
        "training": {**training["train"]["training"], "learning_rate": 1e30},
    }
    recipe = BenchmarkRecipe.model_validate(
        RECIPE
        | {
            "simulations": [{"measurement": FEW}],
            "trainings": [{**training, "train": broken}, training],
            "reconstructions": [*RECIPE["reconstructions"], {"method": {"kind": "learned"}, "prior": "trained/broken"}],
        }
    )
    execution = Execution(workspace=str(tmp_path), cluster=Inline())
    with pytest.raises(TooManyFailures, match=r"trained/broken: .*; all others are in reports/\w+/report.html"):
        benchmark_flow(recipe, execution)
    (page,) = tmp_path.glob("reports/*/report.html")
    text = page.read_text()
    assert "Failed, and missing here" in text
    assert "<li>trained/broken: " in text
    assert "Neumann network (1 call" in text
    assert not finished("benchmark", recipe, str(tmp_path))
