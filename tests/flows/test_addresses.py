"""Where results lie: what decides one decides its address, through the flows themselves."""

from pathlib import Path

import pytest

from flows.evaluate import evaluate_flow
from flows.ingest import ingest_flow
from flows.measure import measure_flow
from flows.reconstruct import reconstruct_flow
from flows.train import train_flow
from scoreinv.baselines import Direct, TotalVariation
from scoreinv.nets import UNet
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import Method
from scoreinv.training.loop import TrainSpec
from storage.models import read_contract
from storage.scores import read_scores
from storage.sources import PhantomSource
from tasks.recipes import (
    EvaluateRecipe,
    IngestRecipe,
    MeasureRecipe,
    Reconstruction,
    ReconstructRecipe,
    Simulation,
    TrainRecipe,
)
from tasks.running.cluster import Inline
from tasks.running.shards import Execution
from tests.tasks import tiny

pytestmark = pytest.mark.usefixtures("prefect_server")
TV = TotalVariation(n_iters=5)


@pytest.fixture
def execution(tmp_path: Path) -> Execution:
    return Execution(workspace=str(tmp_path / "workspace"), cluster=Inline())


@pytest.fixture
def dataset(execution: Execution) -> str:
    source = PhantomSource(modality="mri", n_volumes=1, n_slices=2, size=32)
    return ingest_flow(IngestRecipe(source=source, image=tiny.MRI), execution)


def measured(dataset: str, execution: Execution, **options: float) -> str:
    simulation = Simulation(measurement=CartesianMRI.model_validate(options))
    return measure_flow(MeasureRecipe(dataset=dataset, simulation=simulation), execution)


def reconstructed(measurements: str, method: Method, execution: Execution) -> str:
    choice = Reconstruction.model_validate({"method": method.model_dump()})
    return reconstruct_flow(ReconstructRecipe(measurements=measurements, reconstruction=choice), execution)


def test_a_table_of_two_measurements_tells_them_apart(dataset: str, execution: Execution) -> None:
    refs = [measured(dataset, execution, acceleration=a) for a in (2, 4)]
    made = [reconstructed(ref, method, execution) for ref in refs for method in (Direct(), TV)]
    scores = Path(execution.workspace) / evaluate_flow(EvaluateRecipe(reconstructions=(*made, made[0])), execution)
    table = (scores / "table.md").read_text()
    assert table.startswith("## MRI, 2 times faster and MRI, 4 times faster, 2 slices")
    for a in (2, 4):
        for name in ("zero-filled", "FISTA-TV"):
            assert table.count(f"| {name} (MRI, {a} times faster) | 2 |") == 1
    assert "(+" not in table
    rows = read_scores(str(scores))
    assert {f"measurements/{row['measurements']}" for row in rows} == set(refs)
    assert len(rows) == 2 * 4


def test_a_version_that_is_raised_moves_the_results_of_what_it_belongs_to(
    dataset: str, execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = measured(dataset, execution)
    before = [reconstructed(data, method, execution) for method in (Direct(), TV)]
    monkeypatch.setattr(TotalVariation, "version", TotalVariation.version + 1)
    after = [reconstructed(data, method, execution) for method in (Direct(), TV)]
    assert after[0] == before[0]
    assert after[1] != before[1]
    monkeypatch.setattr(CartesianMRI, "version", CartesianMRI.version + 1)
    again = measured(dataset, execution)
    assert again != data
    assert reconstructed(again, Direct(), execution) != before[0]


def test_a_corrected_text_moves_no_prior_and_trains_nothing(dataset: str, execution: Execution) -> None:
    network = UNet(patch=2, n_features=16, channel_multipliers=(1, 2), n_blocks=1)
    training = TrainSpec(n_images=16, is_bfloat16=False)
    recipe = TrainRecipe(name="tiny", datasets=(dataset,), network=network, training=training)
    first = train_flow(recipe, execution)
    prior = str(Path(execution.workspace) / first / "prior")
    before = read_contract(prior)
    assert train_flow(recipe.model_copy(update={"licence": "CC0"}), execution) == first
    assert read_contract(prior) == before.model_copy(update={"licence": "CC0"})
