"""Resampling: exact in what it must conserve."""

import numpy as np
import pytest

from scoreinv.contract import ImageContract
from storage.resample import block_mean, normalise, prepare, resample

GRIDS = [(64, 1.0), (48, 1.5), (96, 0.75), (80, 1.3), (33, 2.9)]


def bumps(rows: int, columns: int, spacing_mm: tuple[float, float]) -> np.ndarray:
    """Two smooth blobs well inside a field of view of 64 mm."""
    y = ((np.arange(rows) + 0.5 - rows / 2) * spacing_mm[0])[:, None]
    x = ((np.arange(columns) + 0.5 - columns / 2) * spacing_mm[1])[None, :]
    first = np.exp(-((y - 6) ** 2 + (x + 9) ** 2) / (2 * 4.0**2))
    return np.asarray(first + 0.5 * np.exp(-((y + 8) ** 2 + (x - 5) ** 2) / (2 * 5.0**2)))


def moments(image: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[float, float, float]:
    """Mass, and the centre of mass in mm from the image's centre."""
    rows, columns = image.shape
    y, x = (np.arange(rows) + 0.5 - rows / 2) * spacing_mm[0], (np.arange(columns) + 0.5 - columns / 2) * spacing_mm[1]
    mass = image.sum()
    centre = (image.sum(1) @ y / mass, image.sum(0) @ x / mass)
    return float(mass * spacing_mm[0] * spacing_mm[1]), float(centre[0]), float(centre[1])


@pytest.mark.parametrize(("size", "pixel_mm"), [(32, 1.0), (16, 2.0), (50, 0.4), (20, 1.37)])
def test_a_constant_stays_constant_inside_and_background_outside(size: int, pixel_mm: float) -> None:
    image = resample(np.full((40, 64), 0.7), (1.0, 0.625), size=size, pixel_mm=pixel_mm)
    np.testing.assert_allclose(image, 0.7, rtol=1e-12)
    beyond = resample(np.full((40, 40), 0.7), (1.0, 1.0), size=64, pixel_mm=1.0)
    np.testing.assert_allclose(beyond[12:52, 12:52], 0.7, rtol=1e-12)
    assert np.count_nonzero(beyond) == 40 * 40


def test_the_same_grid_changes_nothing() -> None:
    noise = np.random.default_rng(0).uniform(size=(24, 24))
    np.testing.assert_allclose(resample(noise, (1.3, 1.3), size=24, pixel_mm=1.3), noise, atol=1e-12)
    contract = ImageContract(modality="mri", size=24, pixel_mm=1.3, low=0, high=1)
    np.testing.assert_allclose(prepare(0.6 * noise, (1.3, 1.3), contract)[0], 0.6 * noise, atol=1e-6)


@pytest.mark.parametrize(("size", "pixel_mm"), [(48, 1.5), (100, 0.75), (24, 3.1)])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.5, 1.5)])
def test_mass_and_centre_are_kept(size: int, pixel_mm: float, spacing_mm: tuple[float, float]) -> None:
    image = bumps(round(64 / spacing_mm[0]), round(64 / spacing_mm[1]), spacing_mm)
    before = moments(image, spacing_mm)
    after = moments(resample(image, spacing_mm, size=size, pixel_mm=pixel_mm), (pixel_mm, pixel_mm))
    assert after[0] == pytest.approx(before[0], rel=1e-5)
    assert after[1:] == pytest.approx(before[1:], abs=0.02)


@pytest.mark.parametrize(("size", "pixel_mm"), GRIDS)
def test_different_spacings_of_rows_and_columns_give_the_same_picture(size: int, pixel_mm: float) -> None:
    square = resample(bumps(128, 128, (0.5, 0.5)), (0.5, 0.5), size=size, pixel_mm=pixel_mm)
    oblong = resample(bumps(64, 160, (1.0, 0.4)), (1.0, 0.4), size=size, pixel_mm=pixel_mm)
    np.testing.assert_allclose(oblong, square, atol=0.005)


@pytest.mark.parametrize("shrink", [0.5, 0.8, 1.6, 2.0, 3.7])
def test_a_band_limited_pattern_keeps_its_amplitude(shrink: float) -> None:
    # A pixel is a mean over its area: a wave of frequency f loses the factor sinc(f) and nothing else.
    period, pixel = 24.0, shrink
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * np.arange(256) / period)
    size = int(200 / pixel)
    row = resample(np.tile(wave, (256, 1)), (1.0, 1.0), size=size, pixel_mm=pixel)[size // 2]
    expected = 0.4 * np.sinc(pixel / period) / np.sinc(1 / period)
    assert (row.max() - row.min()) / 2 == pytest.approx(expected, rel=0.03)


def test_what_the_new_grid_cannot_show_is_averaged_away() -> None:
    checkerboard = (np.indices((64, 64)).sum(0) % 2).astype(float)
    image = resample(checkerboard, (1.0, 1.0), size=16, pixel_mm=4.0)
    np.testing.assert_allclose(image, 0.5, atol=1e-12)


@pytest.mark.parametrize(("size", "pixel_mm"), GRIDS)
def test_values_stay_in_their_range(size: int, pixel_mm: float) -> None:
    edges = np.zeros((64, 64))
    edges[20:40, 30] = 1
    edges[45:50, 10:50] = 1
    contract = ImageContract(modality="mri", size=size, pixel_mm=pixel_mm, low=0, high=1)
    image, fine = prepare(edges, (1.0, 1.0), contract, fine_factor=3)
    for each in (image, fine):
        assert each.min() >= 0
        assert each.max() <= 1
    assert resample(edges, (1.0, 1.0), size=size, pixel_mm=pixel_mm).min() > -1e-12


@pytest.mark.parametrize("fine_factor", [1, 2, 3, 4])
def test_the_image_is_the_block_mean_of_the_fine_one_whatever_the_factor(fine_factor: int) -> None:
    values = 2000 * bumps(90, 70, (0.7, 0.9)) - 1000
    contract = ImageContract(modality="ct", size=40, pixel_mm=1.6, low=-1000, high=1500)
    image, fine = prepare(values, (0.7, 0.9), contract, fine_factor=fine_factor)
    factor = max(fine_factor, 2)
    assert image.shape == (40, 40)
    assert fine.shape == (40 * factor, 40 * factor)
    np.testing.assert_allclose(image, fine.reshape(40, factor, 40, factor).mean((1, 3)), atol=1e-6)
    np.testing.assert_allclose(image, prepare(values, (0.7, 0.9), contract)[0], atol=2e-3)


def test_normalise_is_the_contracts_linear_map_clipped() -> None:
    contract = ImageContract(modality="ct", size=8, pixel_mm=1, low=-1000, high=1000)
    hounsfield = np.array([[-3024, -1000, 0, 500, 1000, 3071]])
    np.testing.assert_array_equal(normalise(hounsfield, contract), [[0, 0, 0.5, 0.75, 1, 1]])


def test_block_mean() -> None:
    image = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(block_mean(image, 2), [[2.5, 4.5], [10.5, 12.5]])
