"""Small structures: discs of known contrast that are kept, weakened, blurred, erased and invented."""

import math

import pytest
import torch
from torch import Tensor

from scoreinv.contract import ImageContract
from scoreinv.measurement import MeasurementSpec, PoissonNoise, simulate
from scoreinv.metrics.structures import (
    PEAK,
    SURROUND,
    Structures,
    lacking,
    response,
    structure_scores,
    structures,
    unexplained,
    within,
)
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem

SIZE, DIAMETER, CONTRAST = 160, 12.0, 0.1
WHAT = Structures(diameter=DIAMETER, contrast=0.02, foreground=0.05)
PLACES = [(r, c) for r in range(30, 140, 25) for c in range(30, 140, 25)]
BODY = 0.5


def discs(contrasts: list[float], places: list[tuple[int, int]] = PLACES, body: float = BODY) -> Tensor:
    """Discs in a body that reaches over the image, (1, 1, SIZE, SIZE); their edges are averaged within pixels."""
    offsets = (torch.arange(8 * SIZE, dtype=torch.float64) + 0.5) / 8 - 0.5
    image = torch.full((8 * SIZE, 8 * SIZE), body, dtype=torch.float64)
    for (row, column), contrast in zip(places, contrasts, strict=True):
        image += contrast * ((offsets[:, None] - row) ** 2 + (offsets - column) ** 2 <= (DIAMETER / 2) ** 2)
    return image.view(SIZE, 8, SIZE, 8).mean((1, 3))[None, None]


def scores(image: Tensor, truth: Tensor) -> dict[str, float]:
    return {name: float(values) for name, values in structure_scores(image, truth, WHAT).items()}


def mixed(n: int = len(PLACES)) -> list[float]:
    """Contrasts of both signs."""
    return [CONTRAST * (-1) ** i for i in range(n)]


def test_a_disc_of_its_diameter_answers_with_the_peak() -> None:
    truth = discs([CONTRAST], [(80, 80)])
    assert float(response(truth, WHAT.sigma)[0, 0, 80, 80]) == pytest.approx(PEAK * CONTRAST, rel=0.02)
    assert structures(response(truth, WHAT.sigma), WHAT).nonzero().tolist() == [[0, 0, 80, 80]]


def test_what_is_as_it_was_is_all_there() -> None:
    assert scores(discs(mixed()), discs(mixed())) == {"contrast": 1, "contrast_low": 1, "invented": 0}


@pytest.mark.parametrize("left", [0.6, 0.2, -0.5])
def test_contrast_that_is_weakened_is_told_by_how_much(left: float) -> None:
    found = scores(discs([left * one for one in mixed()]) + 0.05, discs(mixed()))
    assert found["contrast"] == pytest.approx(left, abs=0.01)
    assert found["contrast_low"] == pytest.approx(left, abs=0.02)


def test_a_few_that_vanish_are_seen_by_the_worst_tenth_alone() -> None:
    fifth = [0.0 if i % 5 == 0 else one for i, one in enumerate(mixed())]
    found = scores(discs(fifth), discs(mixed()))
    assert found["contrast"] == pytest.approx(1, abs=0.02)
    assert found["contrast_low"] == pytest.approx(0, abs=0.05)
    assert found["invented"] == 0


def test_blur_takes_what_the_formula_says() -> None:
    blur = 4.0
    one, other = (1 - math.exp(-(DIAMETER**2) / 8 / (s**2 + blur**2)) for s in (WHAT.sigma, SURROUND * WHAT.sigma))
    kernel = torch.exp(-(torch.arange(-20, 21, dtype=torch.float64) ** 2) / (2 * blur**2))
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2)[None, None]
    # Only in the middle: nothing of a neighbour or of an edge comes near.
    places = [(r, c) for r in (40, 80, 120) for c in (40, 80, 120)]
    truth = discs(mixed(9), places)
    blurred = torch.nn.functional.conv2d(torch.nn.functional.pad(truth, (20,) * 4, mode="replicate"), kernel)
    assert scores(blurred, truth)["contrast"] == pytest.approx((one - other) / PEAK, abs=0.03)


def test_structures_that_nobody_has_are_invented() -> None:
    truth = discs(mixed(10), PLACES[:10])
    found = scores(discs(mixed(20), PLACES[:20]), truth)
    assert found == {
        "contrast": pytest.approx(1, abs=0.02), "contrast_low": pytest.approx(1, abs=0.02), "invented": 0.5
    }  # fmt: skip
    faint = discs([0.02 * PEAK * one / CONTRAST for one in mixed(20)], PLACES[:20])
    assert scores(faint, truth)["invented"] == 0
    few = discs(mixed(4), PLACES[:4])
    assert all(math.isnan(one) for one in scores(truth, few).values())


def test_edges_bars_and_noise_below_the_contrast_are_no_structures() -> None:
    image = torch.full((1, 1, SIZE, SIZE), BODY, dtype=torch.float64)
    image[..., 40:] += 0.4
    image[..., 60:66, :] -= 0.3
    image[..., 100:106, :] += 0.3
    image += 0.01 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = structures(response(image, WHAT.sigma), WHAT)
    crossings = found.nonzero()[:, 3].sub(40).abs() < 2 * DIAMETER
    assert crossings.all(), "only where an edge and a bar cross"


def test_only_the_body_counts_and_all_that_it_surrounds() -> None:
    body = torch.zeros(9, 9, dtype=torch.bool)
    body[2:7, 2:7] = True
    body[4, 4] = False
    assert int(within(body).sum()) == 25
    truth = discs(mixed(), body=0.0).clamp_min(0)
    assert all(math.isnan(value) for value in scores(truth, 0 * truth).values())


def test_shapes_must_be_alike() -> None:
    with pytest.raises(ValueError, match="of one shape"):
        structure_scores(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 9, 9), WHAT)
    assert math.isnan(scores(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))["contrast"])


def measured(spec: MeasurementSpec, fine: Tensor) -> InverseProblem:
    """Data of finer images, for images of half their size."""
    contract = ImageContract(modality=spec.modality, size=SIZE // 2, pixel_mm=2.0, low=-1000.0, high=1000.0)
    noise = Noise(0, [str(i) for i in range(len(fine))])
    return InverseProblem.of(spec, simulate(spec, fine, contract, noise), contract)


SPECS = pytest.mark.parametrize(
    "spec",
    [
        SparseViewCT(n_views=23),
        CartesianMRI(acceleration=2),
        SparseViewCT(n_views=90, noise=PoissonNoise(n_photons=1e6)),
    ],
    ids=["CT", "MRI", "noisy CT"],
)


def lacks_and_invents(spec: MeasurementSpec) -> tuple[InverseProblem, Tensor]:
    """Three problems and images: one is right, one lacks a disc, one invents it.

    The image is smooth: edges that no grid explains are no structures.
    """
    disc = discs([CONTRAST], [(80, 76)], body=0.0)
    rows, columns = torch.meshgrid(*[(torch.arange(SIZE) - SIZE / 2 + 0.5) / SIZE] * 2, indexing="ij")
    body = 0.5 * ((rows / 0.42).square() + (columns / 0.34).square() < 1).float()[None, None]
    ripple = 0.02 * torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * body
    plain, shown = body + ripple, body + ripple + disc
    images = torch.nn.functional.avg_pool2d(torch.cat([plain, plain, shown]), 2)
    return measured(spec, torch.cat([plain, shown, plain])), images


@SPECS
def test_data_tell_of_a_structure_that_an_image_lacks_or_invents(spec: MeasurementSpec) -> None:
    what = Structures(DIAMETER / 2, 0.02, 0.05)
    problem, images = lacks_and_invents(spec)
    assert unexplained(images, problem, what).tolist() == [0, 1, 1]
    assert unexplained(images[1:2], problem.part(torch.tensor([1])), what).tolist() == [1]


@SPECS
def test_what_an_image_lacks_is_told_by_how_much_and_where(spec: MeasurementSpec) -> None:
    """Of a disc it is half as much again, for the filter is sharper than a disc is."""
    problem, images = lacks_and_invents(spec)
    found = lacking(images, problem, Structures(DIAMETER / 2, 0.02, 0.05).sigma).beyond_noise()
    right, missing, invented = found[:, 0]
    assert float(missing[40, 38]) == pytest.approx(1.5 * CONTRAST, rel=0.2)
    assert float(invented[40, 38]) == pytest.approx(-1.5 * CONTRAST, rel=0.2)
    assert divmod(int(missing.argmax()), SIZE // 2) == (40, 38)
    assert float(right.abs().max()) < 0.25 * CONTRAST


def test_noise_alone_is_nothing_that_images_lack() -> None:
    operator = SparseViewCT(n_views=23).operator(64)
    noise = 0.3 * torch.randn(4, *operator.data_shape, generator=torch.Generator().manual_seed(0))
    found = lacking(torch.zeros(4, 1, 64, 64), InverseProblem(operator, noise, 0.3), 2.0)
    middle = found.contrast[..., 16:48, 16:48]
    torch.testing.assert_close(middle.std((1, 2, 3)), found.noise_std, rtol=0.2, atol=0)
    assert float((found.beyond_noise()[..., 16:48, 16:48] != 0).float().mean()) < 0.1


def test_an_image_that_explains_its_data_to_the_last_bit_has_nothing_unexplained() -> None:
    problem = InverseProblem(
        SparseViewCT(n_views=23).operator(32), torch.zeros(1, *SparseViewCT(n_views=23).operator(32).data_shape)
    )
    assert unexplained(torch.zeros(1, 1, 32, 32), problem, WHAT).tolist() == [0]
