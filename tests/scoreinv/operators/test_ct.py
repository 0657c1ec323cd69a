import math

import numpy as np
import pytest
import torch

from scoreinv.operators.ct import CTOperator, LimitedAngleCT, SparseViewCT, equispaced_angles, paper_angles
from scoreinv.operators.geometry import covering_n_bins, ramp_filter
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.phantoms import SHEPP_LOGAN, disc, exact_sinogram, rasterise, shepp_logan


def image_of(array: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]") -> torch.Tensor:
    return torch.from_numpy(array)[None, None]


def psnr(x: torch.Tensor, truth: torch.Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()))


def test_sinogram_of_a_disc_is_the_closed_form() -> None:
    """Sums agree to the rasterisation; single bins to what a pixelated edge allows."""
    size, shape = 128, disc(0.5, x=0.2, y=-0.1)
    operator = SparseViewCT().operator(size)
    ours = operator.forward(image_of(rasterise([shape], size)))[0].numpy()
    exact = exact_sinogram([shape], size, SparseViewCT().angles(), n_bins=operator.data_shape[1])
    assert np.linalg.norm(ours - exact) / np.linalg.norm(exact) < 0.006
    np.testing.assert_allclose(ours.sum(1), exact.sum(1), rtol=1e-4)


def test_simulation_on_a_finer_grid_is_nearer_to_the_exact_sinogram() -> None:
    size = 64
    for spec in (SparseViewCT(), LimitedAngleCT(n_views=20)):
        operator = spec.operator(size)
        exact = exact_sinogram(SHEPP_LOGAN, size, spec.angles(), n_bins=operator.data_shape[1])
        coarse = operator.forward(image_of(shepp_logan(size)))[0].numpy()
        fine = operator.simulate(image_of(shepp_logan(4 * size)))[0].numpy()
        error_coarse, error_fine = (np.linalg.norm(y - exact) / np.linalg.norm(exact) for y in (coarse, fine))
        assert error_fine < 0.004
        assert error_coarse > 3 * error_fine


@pytest.mark.parametrize(
    ("spec", "share"),
    [
        (SparseViewCT(n_views=180), 1.0),
        (SparseViewCT(n_views=23), 1.0),
        (SparseViewCT(n_views=23, n_full=320, views="paper"), 1.0),
        (LimitedAngleCT(n_views=60, arc_degrees=120), 120 / 180),
    ],
    ids=["full", "sparse", "paper", "limited"],
)
def test_fbp_keeps_the_mean(spec: SparseViewCT | LimitedAngleCT, share: float) -> None:
    """A limited arc keeps its share: the missing views are missing, not replaced by the others."""
    operator = spec.operator(64)
    x = image_of(shepp_logan(64))
    assert spec.direct_name == "FBP"
    assert abs(float(operator.direct(operator.forward(x)).mean() / x.mean()) / share - 1) < 0.025


def test_full_scale_fbp_of_few_views_keeps_their_share() -> None:
    operator = SparseViewCT(n_views=23).operator(64)
    x = image_of(shepp_logan(64))
    mean = operator.fbp(operator.forward(x), step=math.pi / 180).mean() / x.mean()
    assert abs(float(mean) - 23 / 180) < 0.005


def test_fbp_of_many_views_gives_the_image_back() -> None:
    operator = SparseViewCT(n_views=180).operator(64)
    x = image_of(rasterise([disc(0.6), disc(0.3, x=0.2, value=-0.5)], 64))
    assert psnr(operator.direct(operator.forward(x)), x) > 28


def test_evenly_spaced_views_beat_the_papers() -> None:
    """One of the paper's views nearly repeats the first."""
    x = image_of(shepp_logan(128))
    even, paper = (SparseViewCT.model_validate({"views": views}).operator(128) for views in ("equispaced", "paper"))
    assert psnr(even.direct(even.forward(x)), x) > psnr(paper.direct(paper.forward(x)), x) + 0.5


def test_ramp_filter_is_the_band_limited_ramp() -> None:
    """Its response to an impulse is the kernel; its response to a slow wave is |frequency|."""
    impulse = torch.zeros(1, 1, 33, dtype=torch.float64)
    impulse[..., 16] = 1
    expected = [0.25, -1 / math.pi**2, 0.0, -1 / (3 * math.pi) ** 2, 0.0]
    torch.testing.assert_close(ramp_filter(impulse)[0, 0, 16:21], torch.tensor(expected, dtype=torch.float64))
    n = torch.arange(4001, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * 0.05 * (n - 2000))
    torch.testing.assert_close(ramp_filter(wave)[1990:2011], 0.05 * wave[1990:2011], atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_views", [1, 2, 23, 180])
def test_no_view_is_measured_twice(n_views: int) -> None:
    angles = torch.tensor(SparseViewCT(n_views=n_views).angles())
    gaps = torch.cat([angles, angles[:1] + math.pi]).diff()
    assert float(gaps.min()) > 0.9 * math.pi / n_views


def test_paper_angles_end_where_the_released_code_did() -> None:
    angles = paper_angles(23, 320)
    assert len(set(angles)) == 23
    assert angles[0] == 0
    assert math.degrees(angles[-1]) == pytest.approx(179.4375)
    with pytest.raises(ValueError, match="n_full"):
        paper_angles(23, 22)


def test_limited_angles_stay_inside_the_arc() -> None:
    spec = LimitedAngleCT(n_views=30, arc_degrees=90)
    assert max(spec.angles()) == pytest.approx(math.radians(87))
    assert spec.operator(16).n_full == 60
    assert spec.geometry(16).step == pytest.approx(math.radians(3))


def test_the_scale_of_the_measured_views_alone_diverges() -> None:
    """Why ``correct`` uses the scale of the full scan (or a smaller one)."""
    operator = SparseViewCT().operator(128)
    truth = image_of(shepp_logan(128))
    y = operator.forward(truth)
    x = z = torch.zeros_like(truth)
    for _ in range(10):
        x = x + operator.direct(y - operator.forward(x))
        z = operator.project(z, y, strength=1.0)
    assert float((y - operator.forward(x)).norm()) > 10 * float(y.norm())
    assert float((y - operator.forward(z)).norm()) < 0.35 * float(y.norm())


@pytest.mark.parametrize(
    "spec",
    [SparseViewCT(n_views=9), SparseViewCT(n_views=90), LimitedAngleCT(n_views=20)],
    ids=lambda spec: spec.title(),
)
def test_the_approximate_inverse_explains_few_views_in_a_few_rounds(spec: SparseViewCT | LimitedAngleCT) -> None:
    """Which ``correct`` takes dozens for; and it diverges in no direction."""
    operator, truth = spec.operator(64), image_of(shepp_logan(64)).clamp(0, 1)
    y = operator.forward(truth)
    balanced, corrected = torch.zeros_like(truth), torch.zeros_like(truth)
    for _ in range(6):
        balanced = balanced + operator.approximate_inverse(y - operator.forward(balanced))
        corrected = corrected + operator.correct(y - operator.forward(corrected))
    left, left_by_correct = (float((y - operator.forward(x)).norm() / y.norm()) for x in (balanced, corrected))
    assert left < 0.1
    # Of a limited arc few views are missing, and there ``correct`` is nearly as quick.
    assert left < (0.3 if isinstance(spec, SparseViewCT) else 1.0) * left_by_correct
    x = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(3))
    for _ in range(30):
        x = operator.approximate_inverse(operator.forward(x / x.norm()))
    assert float(x.norm()) < 1.02


def test_bins_of_another_width_see_the_same_image() -> None:
    """The mean over a wide bin is the mean of the narrow ones in it; FBP gives the same values."""
    angles, size = equispaced_angles(60), 32
    wide = CTOperator(ParallelBeam(size, angles, 24, 2.0))
    narrow = CTOperator(ParallelBeam(size, angles, 96, 0.5))
    x = image_of(rasterise([disc(0.6)], size))
    pooled = narrow.forward(x).view(1, 60, 24, 4).mean(-1)
    torch.testing.assert_close(wide.forward(x), pooled, rtol=1e-4, atol=1e-4)
    for operator in (wide, narrow):
        assert abs(float(operator.direct(operator.forward(x))[..., 12:20, 12:20].mean()) - 1) < 0.02


def test_astra_agrees_on_a_disc() -> None:
    """ASTRA samples each bin's middle line with linear interpolation; ours is the mean over the bin."""
    pytest.importorskip("astra")
    ours, theirs = SparseViewCT().operator(64), SparseViewCT().operator(64).with_projector("astra")
    x = image_of(rasterise([disc(0.5, x=0.2, y=-0.1)], 64))
    y = ours.forward(x)
    assert ours.data_shape == theirs.data_shape
    assert float((theirs.forward(x) - y).norm() / y.norm()) < 0.01
    torch.testing.assert_close(theirs.direct(y), ours.direct(y), rtol=0, atol=0.1)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoreinv.operators.projectors.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'scoreinv\[astra\]'"):
        SparseViewCT().operator(16).with_projector("astra")


def test_covering_bins_reach_every_corner() -> None:
    operator = SparseViewCT(n_views=16).operator(33)
    ones = torch.ones(1, 1, 33, 33)
    torch.testing.assert_close(operator.forward(ones).sum(-1), torch.full((1, 16), 33.0**2))
    assert covering_n_bins(320) == 453
