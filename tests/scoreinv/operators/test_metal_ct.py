"""CT with metal: physics against closed forms, the trace against the truth, and the operator's promises."""

import itertools
import math

import pytest
import torch

from scoreinv.contract import ImageContract
from scoreinv.errors import UserError
from scoreinv.measurement import Measured, Noiseless, PoissonNoise, simulate
from scoreinv.noise import Noise
from scoreinv.operators.ct import CTOperator
from scoreinv.operators.inserts import KINDS, Inserts
from scoreinv.operators.metal_ct import MetalCT, TracedCTOperator, covered
from scoreinv.operators.trace import across, interpolated
from scoreinv.phantoms import Ellipse, exact_sinogram
from scoreinv.problem import InverseProblem
from scoreinv.xrays import attenuation, tissues, water_length, water_slope
from tests.contracts import check_gradients, check_linear, check_projection_leaves_the_truth, white_data, white_images
from tests.metal import IMAGE, NAMES, SIZE, bodies, data

SPEC = MetalCT(n_views=60)
ROD = Inserts("titanium", (Ellipse(1.0, 0.15, 0.12),))


def whole(spec: MetalCT) -> CTOperator:
    return CTOperator(spec.geometry(SIZE), n_full=spec.n_full_scan)


def test_the_correction_gives_lengths_of_water_back() -> None:
    lengths = torch.linspace(0, 600, 50, dtype=torch.float64)
    seen = attenuation({"water": lengths}).requires_grad_()
    found = water_length(seen)
    torch.testing.assert_close(found, lengths, atol=0.5, rtol=0)
    (slope,) = torch.autograd.grad(found.sum(), seen)
    torch.testing.assert_close(water_slope(seen), slope)
    assert float(slope[-1]) > 1.1 * float(slope[0])


def test_bone_behind_a_body_attenuates_as_its_hounsfield_units_say() -> None:
    water, bone = tissues(torch.tensor([1000.0], dtype=torch.float64))
    through, beside = (water_length(attenuation({"water": 200 + water * mm, "bone": bone * mm})) for mm in (5.0, 0.0))
    assert float(through - beside) == pytest.approx(2 * 5.0, rel=0.03)


def test_without_metal_a_slice_is_nearly_what_the_operator_measures() -> None:
    spec = MetalCT(n_views=60, noise=Noiseless(), metal="none")
    found = data(spec)
    difference = whole(spec).direct(found.y - whole(spec).forward(bodies())) * 2000
    assert float(difference.abs().mean()) < 4
    assert bool((found.context["seen"] == 1).all())
    assert not found.context["metal"].any()


def test_values_below_air_are_measured_as_they_are() -> None:
    """Where an image's 0 lies below air, everything outside the body has a value."""
    image = IMAGE.model_copy(update={"low": -1024.0})
    x = (bodies() * 2000 + 24) / 2024
    spec = MetalCT(n_views=60, noise=Noiseless(), metal="none")
    y = simulate(spec, x, image, Noise(0, NAMES)).y
    torch.testing.assert_close(y, whole(spec).forward(x), rtol=0.01, atol=0.2)


def test_a_ray_through_metal_alone_has_the_attenuation_of_its_length() -> None:
    """A rod in air: its chord in closed form, through a bin that lies within it."""
    spec = MetalCT(n_views=4, noise=Noiseless())
    counted = spec.attenuation(torch.zeros(SIZE, SIZE), IMAGE, ROD)[None] / IMAGE.attenuation_per_pixel()
    found = spec.found(counted, IMAGE)
    raw = found.y + found.context["behind"]
    chord = exact_sinogram(ROD.pieces, SIZE, spec.geometry(SIZE).angles, n_bins=raw.shape[-1])
    middle = chord.shape[1] // 2
    expected = water_length(attenuation({"titanium": torch.from_numpy(chord[:, middle]) * IMAGE.pixel_mm}))
    torch.testing.assert_close(raw[0, :, middle].double(), expected / IMAGE.pixel_mm / 2, rtol=0.02, atol=0)


def test_an_edge_within_a_bin_lets_more_through_than_its_mean_length() -> None:
    spec = MetalCT(n_views=4, noise=Noiseless())
    seen = spec.attenuation(torch.zeros(SIZE, SIZE), IMAGE, ROD).double()
    chord = exact_sinogram(ROD.pieces, SIZE, spec.geometry(SIZE).angles, n_bins=seen.shape[-1])
    of_mean = attenuation({"titanium": torch.from_numpy(chord) * IMAGE.pixel_mm})
    assert bool((seen <= of_mean + 1e-4).all())
    assert float((of_mean - seen).max()) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_metal_lies_within_the_body_and_does_not_overlap(kind: str) -> None:
    spec = MetalCT(metal=kind)  # type: ignore[arg-type]
    names = [str(i) for i in range(20)]
    images = bodies()[:1].expand(20, -1, -1, -1)
    numbers = set()
    for one in spec.inserts(images, IMAGE, Noise(0, names)):
        numbers.add(len(one.pieces))
        assert one.material in KINDS[kind].materials  # type: ignore[index]
        metal = covered(one, SIZE)
        assert float(metal[images[0, 0] < 0.25].sum()) == 0
        area = sum(math.pi * piece.half_width * piece.half_height * (SIZE / 2) ** 2 for piece in one.pieces)
        assert float(metal.sum()) == pytest.approx(area, rel=0.15, abs=0.5)
    assert numbers == {1, 2}


def test_metal_belongs_to_the_slice_and_not_to_the_batch() -> None:
    together = data(SPEC)
    alone = simulate(SPEC, bodies()[2:], IMAGE, Noise(0, NAMES[2:]))
    torch.testing.assert_close(alone.y[0], together.y[2])
    for name, value in alone.context.items():
        torch.testing.assert_close(value[0], together.context[name][2])
    assert not torch.equal(together.context["metal"][0], together.context["metal"][1])


def test_a_slice_has_the_same_metal_on_a_finer_grid() -> None:
    fine = bodies().repeat_interleave(2, -1).repeat_interleave(2, -2)
    coarse_metal, fine_metal = (SPEC.inserts(x, IMAGE, Noise(0, NAMES)) for x in (bodies(), fine))
    assert coarse_metal == fine_metal
    clean = SPEC.model_copy(update={"noise": Noiseless()})
    coarse, finer = (simulate(clean, x, IMAGE, Noise(0, NAMES)) for x in (bodies(), fine))
    rays = (coarse.context["seen"] == 1) & (finer.context["seen"] == 1)
    torch.testing.assert_close(finer.y[rays], coarse.y[rays], rtol=0.01, atol=0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_trace_that_is_found_covers_the_true_one(kind: str) -> None:
    """But for rays that graze an edge: 99 % of what passes through half a pixel of metal or more."""
    spec = MetalCT(n_views=90, metal=kind)  # type: ignore[arg-type]
    found = data(spec)
    inserts = spec.inserts(bodies(), IMAGE, Noise(0, NAMES))
    for seen, one in zip(found.context["seen"], inserts, strict=True):
        geometry = spec.geometry(SIZE)
        lengths = torch.from_numpy(exact_sinogram(one.pieces, SIZE, geometry.angles, n_bins=geometry.n_bins))
        assert float((seen[lengths > 0.5] < 0.5).float().mean()) > 0.99
        assert float((seen < 1).float().mean()) < 0.4


def test_parts_of_the_data_make_the_whole() -> None:
    found = data(SPEC)
    seen = found.context["seen"]
    assert bool(((seen >= 0) & (seen <= 1)).all())
    assert bool(((seen > 0) & (seen < 1)).any())
    assert bool((found.y[seen == 0] == 0).all())
    assert bool((found.context["behind"][seen == 1] == 0).all())
    again = SPEC.split(found.y + found.context["behind"], found.noise_std, IMAGE)
    torch.testing.assert_close(again.y, found.y, rtol=1e-4, atol=1e-3)


def test_the_noise_of_seen_rays_is_that_of_their_photons() -> None:
    spec = MetalCT(n_views=6, metal="none", noise=PoissonNoise(n_photons=1e4))
    names = [str(i) for i in range(200)]
    found = simulate(spec, bodies()[:1].expand(200, -1, -1, -1), IMAGE, Noise(0, names))
    ratio = found.y.var(0).sqrt() / found.noise_std.square().mean(0).sqrt()
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03)


def operator_of(found: Measured, *, dtype: torch.dtype = torch.float64) -> TracedCTOperator:
    operator = SPEC.operator(SIZE, found.context)
    operator.seen, operator.behind = operator.seen.to(dtype), operator.behind.to(dtype)
    return operator


def test_the_operator_keeps_the_promises_of_operators() -> None:
    found = data(SPEC).part(torch.tensor([1]))
    operator = operator_of(found)
    assert float((operator.seen < 1).double().mean()) > 0.02
    check_linear(operator, torch.float64)
    check_gradients(operator, torch.float64, 1e-6)
    check_projection_leaves_the_truth(operator, torch.float64)


def test_projections_come_near_the_data_that_are_seen() -> None:
    operator = operator_of(data(SPEC))
    y = operator.forward(bodies().double())
    x, residuals = torch.zeros(3, 1, SIZE, SIZE, dtype=torch.float64), [y.norm()]
    for _ in range(20):
        x = operator.project(x, y, strength=1.0)
        residuals.append((y - operator.forward(x)).norm())
    assert all(after <= before * 1.001 for before, after in itertools.pairwise(residuals))
    assert residuals[-1] < 0.05 * residuals[0]


def test_what_metal_hides_has_no_say_but_in_the_uncorrected_image() -> None:
    found = data(SPEC)
    operator = SPEC.operator(SIZE, found.context)
    other = SPEC.operator(SIZE, {**found.context, "behind": 2 * found.context["behind"]})
    torch.testing.assert_close(other.start(found.y), operator.start(found.y))
    torch.testing.assert_close(other.correct(found.y), operator.correct(found.y))
    assert float((other.direct(found.y) - operator.direct(found.y)).abs().max()) > 0.5
    hu = operator.direct(found.y) * 2000 - 1000
    assert bool((hu.amax((1, 2, 3)) > SPEC.threshold_hu).all())


def test_a_part_of_a_problem_has_the_traces_of_its_slices() -> None:
    problem, places = InverseProblem.of(SPEC, data(SPEC), IMAGE), torch.tensor([2, 0])
    part = problem.part(places)
    x = white_images(problem.operator, n=3, dtype=torch.float32)
    torch.testing.assert_close(part.operator.forward(x[places]), problem.operator.forward(x)[places])
    torch.testing.assert_close(part.operator.start(part.y), problem.operator.start(problem.y)[places])
    torch.testing.assert_close(
        part.whitened().operator.start(part.whitened().y),
        problem.operator.start(problem.y)[places],
        rtol=1e-3,
        atol=1e-3,
    )


def test_lines_across_the_trace() -> None:
    y = torch.tensor([[9.0, 1.0, 0.0, 0.0, 4.0, 9.0], [0.0, 0.0, 2.0, 5.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    known = torch.tensor([[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    expected = torch.tensor([[9.0, 1.0, 2.0, 3.0, 4.0, 9.0], [2.0, 2.0, 2.0, 5.0, 5.0, 5.0], [0.0] * 6])
    torch.testing.assert_close(across(y, known), expected)
    seen = torch.tensor([1.0, 0.5, 0.0, 1.0])
    # The grazing ray is half its own value 3, half the line's.
    torch.testing.assert_close(
        interpolated(torch.tensor([1.0, 1.5, 0.0, 7.0]), seen), torch.tensor([1.0, 3.0, 5.0, 7.0])
    )


def test_lines_may_begin_and_end_with_means() -> None:
    y = torch.tensor([[[0.0, 2.0, 4.0, 0.0, 0.0, 9.0, 3.0]]])
    seen = torch.tensor([[[1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]]])
    expected = torch.tensor([[[0.0, 2.0, 4.0, 4.0, 5.0, 9.0, 3.0]]])
    torch.testing.assert_close(interpolated(y, seen, n_beside=2), expected)


def test_no_metal_is_looked_for_in_whole_views_of_the_fourier_slice() -> None:
    operator = operator_of(data(SPEC))
    with pytest.raises(UserError, match="take residual"):
        operator.as_fourier_slice(white_data(operator, n=3))


def test_noise_that_knows_no_photons_is_refused() -> None:
    with pytest.raises(ValueError, match="take poisson"):
        MetalCT.model_validate({"noise": {"kind": "gaussian", "noise_std": 0.1}})
    two = ImageContract(modality="ct", size=SIZE, pixel_mm=6.0, low=-1000, high=1000, n_channels=2)
    with pytest.raises(UserError, match="n_channels=1"):
        simulate(SPEC, bodies().expand(-1, 2, -1, -1), two, Noise(0, NAMES))


def test_where_there_is_no_room_there_is_no_metal() -> None:
    found = simulate(SPEC, torch.zeros(1, 1, SIZE, SIZE), IMAGE, Noise(0, ["a"]))
    assert not found.context["metal"].any()
