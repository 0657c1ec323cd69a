"""A reconstructor from its training to its images: for its measurement, and, with a word, for others of its kind."""

from pathlib import Path

import numpy as np
import pytest

from scoreinv.baselines import Direct, Learned
from scoreinv.contract import ReconstructorContract
from scoreinv.errors import UserError
from scoreinv.measurement import GaussianNoise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.training.augment import Augmentation
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import Supervised
from storage.datasets import DatasetStore
from storage.models import load, read_contract
from storage.shards import ShardedStore
from tasks.checks import check_pipeline
from tasks.planning.prior_choice import known_priors, named_prior
from tasks.recipes import PipelineRecipe, Reconstruction, TrainRecipe
from tasks.reconstruct import checked_prior
from tasks.running.shards import Launch
from tasks.workers.priors import elsewhere, load_prior, require_match
from tasks.workers.reconstruct import reconstruct_shard
from tasks.workers.training import train as worker
from tasks.workers.training.train_job import TrainJob
from tests.tasks import tiny

MEASUREMENT = CartesianMRI(acceleration=2, noise=GaussianNoise(noise_std=0.02))
RECIPE = TrainRecipe(
    name="tiny-2x",
    datasets=("datasets/tiny",),
    network=tiny.NETWORK,
    objective=Supervised(measurement=MEASUREMENT),
    training=TrainSpec(n_images=1200, learning_rate=2e-3, warmup_images=80, ema_half_life=100, is_bfloat16=False),
    augmentation=Augmentation(),
    validation_subjects=("phantom-1",),
    validate_every=400,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With images, their data, and a reconstructor that was trained on one of the two subjects."""
    folder = tmp_path_factory.mktemp("workspace")
    tiny.measurements(folder, tiny.dataset(folder))
    job = TrainJob(
        recipe=RECIPE,
        datasets=(str(folder / "datasets" / "tiny"),),
        target=str(folder / "priors" / "tiny"),
        trunk=str(folder / "trainings" / "tiny"),
        launch=Launch(n_threads=1),
        device="cpu",
    )
    (folder / "job.json").write_text(job.model_dump_json())
    worker.main(str(folder / "job.json"))
    return folder


def data_of(workspace: Path) -> ShardedStore:
    return ShardedStore.open(str(workspace / "measurements" / "tiny"))


def errors_of(workspace: Path, choice: Reconstruction, name: str) -> np.ndarray:
    """Root mean squared error of every slice."""
    job, store = tiny.reconstruction(data_of(workspace), workspace / "reconstructions" / name, choice)
    for shard in store.pending():
        reconstruct_shard(job, shard.index, print)
    store.finish()
    truth = DatasetStore.open(str(workspace / "datasets" / "tiny")).images(0, store.n)
    return np.sqrt(np.square(store.read("sample", 0, store.n).reshape(truth.shape) - truth).mean((1, 2)))


def test_it_is_published_with_its_measurement_and_a_card(workspace: Path) -> None:
    _, contract = load(str(workspace / "priors" / "tiny" / "prior"))
    assert isinstance(contract, ReconstructorContract)
    assert contract.other_measurement(MEASUREMENT) is None
    card = (workspace / "priors" / "tiny" / "prior" / "card.md").read_text()
    for text in ("A reconstructor of MRI slices", "cartesian_mri (", "acceleration 2.0", "| reconstruction | 0."):
        assert text in card
    assert (workspace / "priors" / "tiny" / "prior" / "curve.png").exists()


def test_its_images_are_better_than_what_it_refines(workspace: Path) -> None:
    prior = str(workspace / "priors" / "tiny" / "prior")
    learned = errors_of(workspace, Reconstruction(method=Learned(), prior=prior), "learned")
    direct = errors_of(workspace, Reconstruction(method=Direct()), "direct")
    assert learned.mean() < 0.8 * direct.mean()


def test_data_of_other_options_are_taken_and_said_and_those_of_another_kind_refused(workspace: Path) -> None:
    prior, data = str(workspace / "priors" / "tiny" / "prior"), data_of(workspace)
    choice = Reconstruction(method=Learned(), prior=prior)
    assert checked_prior(prior, choice, data) == load(prior)[1].sha256
    job, store = tiny.reconstruction(data, workspace / "reconstructions" / "refused", choice)
    other = CartesianMRI(acceleration=4)
    simulation = job.simulation.model_copy(update={"measurement": other})
    reconstruct_shard(job.model_copy(update={"simulation": simulation}), 0, print)
    assert np.isfinite(store.read("sample", 0, store.shard_size)).all()
    contract = read_contract(prior)
    assert elsewhere(contract, MEASUREMENT) == ""
    said = elsewhere(contract, MEASUREMENT.model_copy(update={"acceleration": 3.0}))
    assert said.startswith("reconstructor 'tiny-2x' was trained for acceleration=2.0 but the data were measured with")
    with pytest.raises(UserError, match=r"trained for kind=cartesian_mri but .* with kind=sparse_view_ct: measure the"):
        require_match(contract, tiny.MRI, measurement=SparseViewCT())


def test_a_method_is_not_given_the_other_kind_of_model(workspace: Path, tmp_path: Path) -> None:
    reconstructor, prior = str(workspace / "priors" / "tiny" / "prior"), tiny.prior(tmp_path / "prior")
    for name, method, message in (
        (reconstructor, tiny.sampler(2), "method 'dds' needs a prior, but 'tiny-2x' is a reconstructor"),
        (prior, Learned(), "method 'learned' needs a reconstructor, but 'tiny' is a prior"),
    ):
        with pytest.raises(UserError, match=message):
            checked_prior(name, Reconstruction.model_validate({"method": method, "prior": name}), data_of(workspace))
    with pytest.raises(UserError, match="is a reconstructor, a prior is needed here"):
        load_prior(reconstructor, "cpu", "float32")
    assert "priors/tiny" not in known_priors(str(workspace))
    with pytest.raises(UserError, match="the methods of a plan need a prior"):
        named_prior(str(workspace), "priors/tiny")


def test_a_study_that_trains_what_cannot_be_used_is_refused_before_it_begins(tmp_path: Path) -> None:
    ingest = {"source": {"kind": "phantom", "modality": "mri"}, "image": tiny.MRI.model_dump()}
    study = {
        "name": "a",
        "ingest": ingest,
        "simulation": {"measurement": MEASUREMENT.model_dump()},
        "training": {"ingest": [ingest], "train": RECIPE.model_dump()},
        "reconstructions": [{"method": {"kind": "learned"}, "prior": "trained"}],
    }
    check_pipeline(PipelineRecipe.model_validate({"studies": [study]}), str(tmp_path))
    network = study["training"]["train"] | {"network": {"kind": "sin_prn"}}
    wrong = study | {"training": {"ingest": [ingest], "train": network}}
    with pytest.raises(UserError, match="study a: network.kind='sin_prn' is for ct data, not MR: choose another"):
        check_pipeline(PipelineRecipe.model_validate({"studies": [wrong]}), str(tmp_path))
    shared = {"studies": [study], "trainings": [wrong["training"]]}
    with pytest.raises(UserError, match="training tiny-2x: network.kind='sin_prn' is for ct data"):
        check_pipeline(PipelineRecipe.model_validate(shared), str(tmp_path))
    study["reconstructions"] = [{"method": {"kind": "dds"}, "prior": "trained"}]
    with pytest.raises(UserError, match="method 'dds' needs a prior, but 'tiny-2x' is a reconstructor"):
        check_pipeline(PipelineRecipe.model_validate({"studies": [study]}), str(tmp_path))
