"""Priors of low frequencies: trained on a coarser grid, and made the coarse part of another one."""

from pathlib import Path

import pytest
import torch

from scoreinv.band import from_band, low_band
from scoreinv.contract import PriorContract
from scoreinv.errors import UserError
from scoreinv.operators.ct import SparseViewCT
from scoreinv.priors import joined, prior_from
from scoreinv.training.objectives import Supervised
from storage.models import load, read_contract
from storage.sources.phantom import PhantomSource
from tasks.recipes import TrainRecipe
from tasks.trained import coarse_part
from tasks.workers.priors import load_prior
from tasks.workers.training.curve import read_curve
from tasks.workers.training.train_job import TrainJob
from tests.tasks.trainings import RECIPE, SIZE, going_on, ingested, job_for, run_here

BAND = 8


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a data set, a prior of its images and one of their low frequencies, half as many images trained."""
    folder = tmp_path_factory.mktemp("workspace")
    dataset = ingested(str(folder / "datasets" / "phantoms"), PhantomSource(n_slices=3, size=32, pixel_mm=10.0))
    run_here(job_for(dataset, folder / "priors" / "fine", n_images=80), folder)
    low = job_for(dataset, folder / "priors" / "low", n_images=80, band=BAND)
    run_here(low.model_copy(update={"trunk": str(folder / "trunk-of-low")}), folder)
    return folder


def with_coarse(workspace: Path, job: TrainJob) -> TrainJob:
    uri = str(workspace / "priors" / "low" / "prior")
    return job.model_copy(update={"coarse": uri, "coarse_sha256": read_contract(uri).sha256})


@pytest.fixture(scope="module")
def both(workspace: Path) -> Path:
    """The training of the fine prior, published with the coarse part."""
    job = job_for(str(workspace / "datasets" / "phantoms"), workspace / "priors" / "both", n_images=80)
    run_here(with_coarse(workspace, job), workspace)
    return workspace / "priors" / "both"


def noisy(sigma: float, side: int) -> torch.Tensor:
    return 0.3 + sigma * torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(0))


def test_a_prior_of_a_band_is_for_a_coarser_grid_over_the_same_field(workspace: Path) -> None:
    fine, low = (read_contract(str(workspace / "priors" / name / "prior")).image for name in ("fine", "low"))
    assert (low.size, low.pixel_mm) == (BAND, fine.pixel_mm * SIZE / BAND)
    rows = read_curve(str(workspace / "priors" / "low"))
    assert rows[-1].validation_rmse[-2] < rows[0].validation_rmse[-2]


def test_a_prior_leaves_the_low_frequencies_to_its_coarse_part(workspace: Path, both: Path) -> None:
    places = [str(workspace / "priors" / name / "prior") for name in ("fine", "low", "both")]
    fine, low, whole = (load_prior(place, "cpu", "float32")[0] for place in places)
    for sigma, times in ((0.05, 1), (1.0, 1), (1.0, 2)):
        side, band = times * SIZE, times * BAND
        x, level = noisy(sigma, side), torch.tensor(sigma)
        with torch.no_grad():
            alone, found = fine(x, level), whole(x, level)
            coarse = low(low_band(x, band), level * BAND / SIZE)
        torch.testing.assert_close(found, alone + 0.5 * from_band(coarse - low_band(alone, band), side))
        assert float((found - alone).abs().max()) > 1e-3
    card = (both / "prior" / "card.md").read_text()
    assert f"coarse part on {BAND} x {BAND} pixels, 80 images seen" in card


def test_weights_of_both_are_published_once_and_come_back(workspace: Path, both: Path) -> None:
    parts = [load(str(workspace / "priors" / name / "prior")) for name in ("fine", "low")]
    (weights, contract), (low_weights, low) = parts
    assert isinstance(contract, PriorContract)
    assert isinstance(low, PriorContract)
    again, described = joined(weights, contract, (low_weights, low))
    assert (again, described.sha256) == (load(str(both / "prior"))[0], read_contract(str(both / "prior")).sha256)
    # Of one that has such a part it is taken, and a part that was there is replaced.
    assert joined(again, described, (again, described))[0] == again
    whole = joined(again, described, (low_weights, low), share=1.0)
    assert prior_from(*whole).coarse_share == 1
    # That of a part which is there already stays.
    assert prior_from(*joined(weights, contract, whole)).coarse_share == 1
    assert len(again) > len(weights) + len(low_weights) - 5000
    assert prior_from(again, described, precision="bfloat16").coarse.autocast_dtype is torch.bfloat16


def test_a_training_that_goes_on_keeps_the_coarse_part(workspace: Path, both: Path) -> None:
    dataset = str(workspace / "datasets" / "phantoms")
    recipe = RECIPE.model_copy(update={"initial": "priors/both"})
    assert coarse_part(recipe, str(workspace)) == (str(both / "prior"), read_contract(str(both / "prior")).sha256)
    job = going_on(job_for(dataset, workspace / "priors" / "longer", n_images=96), both, "both")
    own = {"coarse": job.initial, "coarse_sha256": job.initial_sha256, "trunk": str(workspace / "trunk-of-longer")}
    job = job.model_copy(update=own)
    run_here(job, workspace)
    before, after = (
        load_prior(str(one / "prior"), "cpu", "float32")[0] for one in (both, workspace / "priors" / "longer")
    )
    assert before.coarse is not None
    assert after.coarse is not None
    for mine, theirs in zip(before.coarse.parameters(), after.coarse.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(next(before.network.parameters()), next(after.network.parameters()))


def test_where_there_is_no_coarse_part_there_is_none(workspace: Path) -> None:
    assert coarse_part(RECIPE, str(workspace)) == ("", "")
    assert coarse_part(RECIPE.model_copy(update={"initial": "priors/fine"}), str(workspace)) == ("", "")


def test_a_coarse_part_of_other_images_is_refused(workspace: Path) -> None:

    def refused(changed: TrainRecipe) -> str:
        with pytest.raises(UserError) as caught:
            coarse_part(changed, str(workspace))
        return str(caught.value)

    for name in ("priors/fine", "ct-128", "mri-128"):
        said = refused(RECIPE.model_copy(update={"coarse": name}))
        assert "is not of the low frequencies of 16 x 16 pixels of 20 mm, for 'tiny' to leave to it" in said
        assert "band=N, N less than 16" in said
    supervised = RECIPE.model_copy(update={"coarse": "priors/low", "objective": Supervised(measurement=SparseViewCT())})
    assert "is for priors" in refused(supervised)


def test_a_band_that_is_no_less_than_the_images_is_refused(workspace: Path) -> None:
    job = job_for(str(workspace / "datasets" / "phantoms"), workspace / "priors" / "wide", band=SIZE)
    with pytest.raises(UserError, match=r"band=16 must be less than the 16 pixels of the images"):
        run_here(job, workspace)


def test_the_address_knows_band_and_coarse_part_and_the_trunk_the_band_alone() -> None:
    band = RECIPE.model_copy(update={"band": BAND})
    named = RECIPE.model_copy(update={"coarse": "priors/low"})
    more = named.model_copy(update={"coarse_share": 1.0})
    addresses = [
        RECIPE.address(),
        band.address(),
        *(one.address("", sha * 64) for one in (named, more) for sha in "ab"),
    ]
    assert len(set(addresses)) == 6
    assert more.trunk() == named.trunk()
    assert named.trunk() == RECIPE.trunk() != band.trunk()
