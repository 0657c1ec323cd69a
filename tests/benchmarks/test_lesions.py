"""The lesion test finds what became of a disc: one that is there is kept, one that is not has vanished."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from benchmarks.lesions import LESIONS, Lesion, disc, found, images_of, place_for, planted, problem_of
from benchmarks.settings import People
from scoreinv.baselines import Direct
from scoreinv.contract import ImageContract
from scoreinv.denoiser import Denoiser
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, Step

SIZE = 64
CT = ImageContract(modality="ct", size=SIZE, pixel_mm=5.0, low=-1000, high=1000)
LARGE = Lesion("soft tissue", -50.0, 150.0, 40.0, 40.0, 300.0)


class Blank(Direct):
    """Whatever was measured, water."""

    def steps(self, problem: InverseProblem, denoiser: Denoiser, noise: Noise) -> Iterator[Step]:
        yield Step(0, 0.0, torch.full((len(problem.y), 1, SIZE, SIZE), 0.5))


def people() -> People:
    """A disc of water in air, of two people."""
    axis = torch.arange(2 * SIZE) - SIZE + 0.5
    body = (axis**2 + axis[:, None] ** 2 < 50**2).float() * 0.5
    fine = body.expand(2, 1, -1, -1)
    return People(avg_pool2d(fine, 2), fine, ["a", "b"], ["a", "b"], CT)


def no_model(x: Tensor, sigma: Tensor) -> Tensor:
    raise AssertionError


@pytest.mark.parametrize(("method", "recovery"), [(Direct(), 1.0), (Blank(), 0.0)])
def test_recovery_is_the_share_of_the_contrast_that_is_left(method: Direct, recovery: float) -> None:
    given = planted(LARGE, people(), SparseViewCT(n_views=180))
    assert given is not None
    row = found(LARGE, given, method, no_model, plain(method), None)  # type: ignore[arg-type]
    assert row.people == ["a", "b"]
    assert row.recovery == pytest.approx([recovery, recovery], abs=0.15)


@pytest.mark.parametrize(("contrast", "is_told"), [(300.0, 1.0), (1e-3, 0.0)])
def test_data_tell_of_what_is_left_out(contrast: float, is_told: float) -> None:
    small = LARGE._replace(diameter_mm=15.0, contrast=contrast)
    given = planted(small, people(), SparseViewCT(n_views=45))
    assert given is not None
    row = found(small, given, Direct(), no_model, people().images, None)  # type: ignore[arg-type]
    assert row.is_told == [is_told, is_told]


def plain(method: Direct) -> Tensor:
    """The images without a disc."""
    given = people()
    return images_of(problem_of(given, SparseViewCT(n_views=180)), given, method, no_model)  # type: ignore[arg-type]


def test_lesions_are_put_where_their_tissue_is_even_and_nowhere_else() -> None:
    image = people().images[0, 0]
    place = place_for(image, LARGE, CT)
    assert place is not None
    row, column = place
    assert image[row - 4 : row + 5, column - 4 : column + 5].std() < 0.02
    assert place_for(image, LESIONS["ct"][0], CT) is None


def test_lesions_of_mri_are_put_into_what_is_neither_dark_nor_uneven() -> None:
    contract = ImageContract(modality="mri", size=SIZE, pixel_mm=2.0, low=0, high=1)
    given = people()._replace(contract=contract)
    for lesion in LESIONS["mri"]:
        found = planted(lesion, given, CartesianMRI(acceleration=2))
        assert found is not None
        added = found.truth - found.people.images
        assert float(added.sum()) == pytest.approx(lesion.contrast * float(found.disc.sum()), rel=1e-3)
        assert lesion.name("mri") == f"tissue, {lesion.diameter_mm:g} mm, {lesion.contrast:+g}"
        assert place_for(torch.zeros(SIZE, SIZE), lesion, contract) is None


def test_a_disc_covers_its_area_around_the_middle_of_its_pixel() -> None:
    covered = disc((20, 40), LARGE, CT, 2 * SIZE)
    assert float(covered.sum()) == pytest.approx(torch.pi * 8**2, rel=0.01)
    rows, columns = torch.meshgrid(torch.arange(2 * SIZE), torch.arange(2 * SIZE), indexing="ij")
    middle = [float((covered[0] * axis).sum() / covered.sum()) for axis in (rows, columns)]
    assert middle == pytest.approx([40.5, 80.5], abs=0.05)
