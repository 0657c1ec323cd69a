"""Recipes refuse what makes no sense, by the name of the option."""

import math
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from scoreinv.contract import ImageContract, PriorContract
from scoreinv.nets import UNet
from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.samplers.grid import SigmaGrid
from scoreinv.sde import VE, VP
from scoreinv.spec import MAX_SEED, Spec
from scoreinv.training.levels import LogNormalLevels
from scoreinv.training.loop import TrainSpec
from scoreinv.training.objectives import Denoising
from storage.sources import DicomSource, PhantomSource
from tasks.benchmark import BenchmarkRecipe
from tasks.recipes import IngestRecipe, PipelineRecipe, Reconstruction, Simulation, Study, Training, TrainRecipe
from tasks.running.cluster import LocalWorkers
from tasks.running.shards import Execution
from tasks.tuning.search_spaces import SearchRange

CT = {"modality": "ct", "size": 32, "pixel_mm": 10, "low": -1000, "high": 1000}
VIEWS = {"measurement": {"kind": "sparse_view_ct"}}
PHANTOM = {"kind": "phantom"}
STUDY = {"name": "a", "simulation": VIEWS, "reconstructions": [{"method": {"kind": "direct"}}]}
INGEST = {"source": PHANTOM, "image": CT}
TRAIN = {"name": "a", "datasets": ["datasets/a"]}
MODEL = {"ingest": [INGEST], "train": TRAIN}

NONSENSE: list[tuple[type[Spec], dict[str, Any], str]] = [
    (ImageContract, CT | {"low": 1000}, "low=1000.0 must be below high=1000.0"),
    (ImageContract, CT | {"low": 5, "high": -5}, "low=5.0 must be below high=-5.0"),
    (ImageContract, CT | {"size": 0}, "size"),
    (ImageContract, CT | {"pixel_mm": 0}, "pixel_mm"),
    (ImageContract, CT | {"pixel_mm": 3500}, "pixel_mm"),
    (SigmaGrid, {"sigma_min": 1, "sigma_max": 1}, "sigma_min=1.0 must be below sigma_max=1.0"),
    (SigmaGrid, {"sigma_min": 1e-300}, "sigma_min"),
    (SigmaGrid, {"n_levels": 0}, "n_levels"),
    (LogNormalLevels, {"sigma_min": 50}, "sigma_min=50.0 must be below"),
    (VE, {"sigma_min": 200}, "sigma_min=200.0 must be below sigma_max=128.0"),
    (VP, {"beta_max": 0.1}, "beta_min=0.1 must be below beta_max=0.1"),
    (SparseViewCT, {"n_views": 0}, "n_views"),
    (SparseViewCT, {"views": "paper", "n_views": 181}, "n_views=181 is more than the n_full=180"),
    (LimitedAngleCT, {"arc_degrees": 1e-306}, "arc_degrees"),
    (CartesianMRI, {"acceleration": 0.5}, "acceleration"),
    (CartesianMRI, {"n_acs": 0}, "n_acs"),
    (CartesianMRI, {"noise": {"kind": "poisson", "n_photons": 1e5}}, "noise.kind='poisson' counts photons"),
    (CartesianMRI, {"seed": 2**64}, "seed"),
    (Simulation, VIEWS | {"seed": -1}, "seed"),
    (Simulation, VIEWS | {"seed": MAX_SEED + 1}, "seed"),
    (UNet, {"channel_multipliers": []}, "channel_multipliers"),
    (UNet, {"channel_multipliers": [1, 0]}, "channel_multipliers.1"),
    (UNet, {"n_features": 50}, "n_features=50 times 4 makes 200 channels"),
    (TrainSpec, {"n_images": 100, "cooldown_images": 101}, "cooldown_images=101 is more than n_images=100"),
    (TrainSpec, {"n_images": 100, "warmup_images": 101}, "warmup_images=101 is more than n_images=100"),
    (TrainRecipe, TRAIN | {"shares": [0, 0]}, "all shares are 0"),
    (TrainRecipe, TRAIN | {"shares": [1, -1]}, "shares.1"),
    (TrainRecipe, TRAIN | {"datasets": []}, "datasets"),
    (Training, {"ingest": [INGEST], "train": TRAIN | {"shares": [1, 2]}}, "train.shares holds 2 for 1 of ingest"),
    (Training, {"ingest": [], "train": TRAIN}, "ingest"),
    (IngestRecipe, INGEST | {"source": {"kind": "phantom", "modality": "mri"}}, "source.modality='mri' but image"),
    (DicomSource, {"path": ""}, "path"),
    (DicomSource, {"path": "x", "select": {"every": 0}}, "select.every"),
    (DicomSource, {"path": "x", "only_subjects": ["a", "b"], "exclude_subjects": ["b"]}, "both name b"),
    (PhantomSource, {"n_volumes": 0}, "n_volumes"),
    (Study, STUDY | {"ingest": INGEST, "simulation": VIEWS | {"uses_fine_images": True}}, "needs ingest.fine_factor"),
    (Study, STUDY | {"ingest": INGEST, "reconstructions": []}, "reconstructions"),
    (Study, STUDY, "needs either ingest or dataset"),
    (PipelineRecipe, {"title": "", "studies": [STUDY | {"ingest": INGEST}]}, "title"),
    (PipelineRecipe, {"studies": []}, "studies"),
    (SearchRange, {"key": "eta", "low": 1, "high": 1}, "low must be below high"),
    (LocalWorkers, {"n_workers": -1}, "n_workers"),
    (Execution, {"workspace": ""}, "workspace"),
    (Execution, {"batch_size": 0}, "batch_size"),
    (Execution, {"retries": -1}, "retries"),
    (TrainRecipe, TRAIN | {"objective": {"kind": "supervised"}}, "objective.supervised.measurement"),
    (TrainRecipe, TRAIN | {"objective": {"kind": "gan"}}, "objective"),
    (TrainRecipe, TRAIN | {"network": {"kind": "unrolled"}}, "network.kind='unrolled' reconstructs, so it needs obj"),
    (PipelineRecipe, {"studies": [STUDY | {"dataset": "datasets/a"}], "trainings": [MODEL, MODEL]}, "trainings need"),
    (BenchmarkRecipe, {"dataset": "datasets/a", "simulations": [VIEWS]}, "needs a prior: name a shipped one"),
    (BenchmarkRecipe, {"simulations": [VIEWS], "prior": "ct-128"}, "needs either ingest or dataset"),
    (Reconstruction, {"method": {"kind": "learned"}}, "needs a reconstructor: name priors/<digest>"),
]


@pytest.mark.parametrize(("kind", "content", "message"), NONSENSE, ids=lambda part: str(part)[:40])
def test_nonsense_is_refused_by_name(kind: type[Spec], content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate(content)
    (error,) = refused.value.errors()
    assert message in f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_what_is_at_the_border_is_taken() -> None:
    assert SparseViewCT(views="paper", n_views=180).n_views == 180
    assert TrainSpec(n_images=100, cooldown_images=100, warmup_images=100).cooldown_images == 100
    assert TrainSpec(n_images=10).warmup_images == 1000  # the default may outlast a trial
    assert TrainRecipe.model_validate(TRAIN | {"shares": [0, 1]}).shares == (0, 1)
    assert Simulation.model_validate(VIEWS | {"seed": MAX_SEED}).seed == MAX_SEED


def test_options_of_a_denoiser_are_read_where_they_lay_and_keep_its_address() -> None:
    levels, preconditioning = {"kind": "log_normal", "mean": -1.0}, {"kind": "edm", "mean": 0.3}
    training = {"n_images": 2000}
    before = TRAIN | {"training": training | {"levels": levels}, "preconditioning": preconditioning}
    now = TRAIN | {"training": training, "objective": {"levels": levels, "preconditioning": preconditioning}}
    old, new = (TrainRecipe.model_validate(one) for one in (before, now))
    assert old == new
    assert isinstance(new.objective, Denoising)
    assert (new.objective.levels.mean, new.objective.preconditioning.mean) == (-1.0, 0.3)
    # Of the version without objectives.
    assert TrainRecipe.model_validate({"name": "a", "datasets": ["datasets/x"]}).address() == "40bac53b6c10"
    other = {"training": {"n_images": 5, "levels": levels}}
    assert TrainRecipe.model_validate({"name": "a", "datasets": ["datasets/x"]} | other).address("ab") == "c98e78c75adf"


def test_another_objective_has_another_address() -> None:
    plain = TrainRecipe.model_validate(TRAIN)
    objectives = [
        {"kind": "supervised", "measurement": {"kind": "sparse_view_ct"}},
        {"kind": "supervised", "measurement": {"kind": "sparse_view_ct"}, "l1_share": 0.5},
        {"kind": "adversarial", "supervised": {"measurement": {"kind": "sparse_view_ct"}}},
    ]
    others = [TrainRecipe.model_validate(TRAIN | {"objective": one}) for one in objectives]
    assert len({one.address() for one in (plain, *others)}) == 4


def test_a_prior_whose_levels_are_not_ordered_is_refused() -> None:
    fields = {"name": "a", "image": CT, "network": {}, "preconditioning": {}, "training_data": [], "licence": ""}
    with pytest.raises(ValidationError, match=r"sigma_min=2\.0 must be below sigma_max=1\.0"):
        PriorContract.model_validate(fields | {"sigma_min": 2, "sigma_max": 1, "images_seen": 0, "sha256": ""})


def _kinds(kind: type[Spec]) -> set[type[Spec]]:
    return {kind}.union(*map(_kinds, kind.__subclasses__()))


SHIPPED = ("scoreinv.", "storage.", "tasks.")
FLOATS = [
    (kind, name)
    for kind in sorted(_kinds(Spec), key=lambda kind: (kind.__module__, kind.__name__))
    if kind.__module__.startswith(SHIPPED)
    for name, field in kind.model_fields.items()
    if float in (field.annotation, *get_args(field.annotation)) and int not in get_args(field.annotation)
]


@pytest.mark.parametrize(("kind", "name"), FLOATS, ids=lambda part: part if isinstance(part, str) else part.__name__)
@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_no_number_of_any_spec_is_infinite_or_none(kind: type[Spec], name: str, number: float) -> None:
    is_list = str(kind.model_fields[name].annotation).startswith("tuple")
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({name: (number, number) if is_list else number})
    assert any((item["loc"][0], item["type"]) == (name, "finite_number") for item in refused.value.errors())


def test_there_are_such_numbers() -> None:
    assert len(FLOATS) > 50
