import math

import numpy as np
import pytest

from scoreinv.phantoms import SHEPP_LOGAN, Ellipse, coverage, disc, exact_sinogram, rasterise, shepp_logan, varied_head


def test_head_has_the_published_values() -> None:
    image = shepp_logan(128)
    assert image.shape == (128, 128)
    assert image.dtype == np.float32
    assert image.min() == 0
    assert image.max() == pytest.approx(1)
    assert image[83, 64] == pytest.approx(0.2)
    assert image[70, 64] == pytest.approx(0.3)
    assert image[int(64 * (1 - 0.5)), 64] == pytest.approx(0.3)
    assert image[64, 64 + int(0.22 * 64)] == pytest.approx(0, abs=1e-6)


def test_rasterised_ellipse_has_its_area_and_its_place() -> None:
    ellipse = Ellipse(2.0, 0.5, 0.25, x=0.3, y=0.4, turn=0.6)
    image = rasterise([ellipse], 64)
    assert image.mean() * 4 == pytest.approx(2 * math.pi * 0.5 * 0.25, rel=1e-3)
    rows, columns = np.indices(image.shape)
    x, y = (columns + 0.5) / 32 - 1, 1 - (rows + 0.5) / 32
    weights = image / image.sum()
    assert (weights * x).sum() == pytest.approx(0.3, abs=1e-3)
    assert (weights * y).sum() == pytest.approx(0.4, abs=1e-3)
    assert (weights * (x - 0.3) * (y - 0.4)).sum() > 0.01
    np.testing.assert_allclose(coverage(ellipse, 64), image / 2)
    assert rasterise([], 8).tolist() == np.zeros((8, 8)).tolist()


def test_sinogram_of_a_disc_is_the_chord() -> None:
    """Fine bins against 2 sqrt(r^2 - t^2), in pixel sides."""
    size, radius, n_bins = 100, 0.6, 4000
    t = ((np.arange(n_bins) + 0.5) / n_bins - 0.5) * 100
    ours = exact_sinogram([disc(radius)], size, [0.0, 1.0], n_bins=n_bins, bin_spacing=100 / n_bins)
    chord = 2 * np.sqrt(np.maximum((radius * 50) ** 2 - t**2, 0))
    np.testing.assert_allclose(ours, [chord, chord], atol=0.3)
    np.testing.assert_allclose(ours[0][np.abs(t) < 25], chord[np.abs(t) < 25], rtol=1e-5)


def test_sinogram_of_a_turned_ellipse_is_that_of_its_points() -> None:
    """Against a histogram of the detector positions of many points."""
    ellipse = Ellipse(1.5, 0.6, 0.2, x=0.2, y=-0.1, turn=0.8)
    size, n_bins = 32, 46
    n = 1600
    grid = (np.arange(n) + 0.5) * 2 / n - 1
    inside = rasterise([ellipse], n, supersampling=1)
    for angle in (0.0, 0.7, 2.0):
        t = (grid * math.cos(angle) + -grid[:, None] * math.sin(angle)) * size / 2
        counts, _ = np.histogram(t, n_bins, (-n_bins / 2, n_bins / 2), weights=inside)
        ours = exact_sinogram([ellipse], size, [angle], n_bins=n_bins)[0]
        np.testing.assert_allclose(ours, counts * (size / n) ** 2, atol=0.05)


def test_every_view_holds_the_whole_mass() -> None:
    angles = np.linspace(0, math.pi, 17)
    sums = exact_sinogram(SHEPP_LOGAN, 64, angles, n_bins=91).sum(1)
    mass = sum(e.value * math.pi * e.half_width * e.half_height for e in SHEPP_LOGAN) * 32**2
    np.testing.assert_allclose(sums, mass)


def test_varied_heads_differ_and_keep_their_range() -> None:
    images = [rasterise(varied_head(np.random.default_rng(seed)), 48) for seed in range(20)]
    assert all(image.min() >= 0 and image.max() <= 1 + 1e-6 for image in images)
    assert np.abs(images[0] - images[1]).max() > 0.1
    assert np.array_equal(images[3], rasterise(varied_head(np.random.default_rng(3)), 48))
