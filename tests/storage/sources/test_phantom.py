"""Random ellipses."""

import numpy as np
import pytest

from storage.sources.phantom import PhantomSource


def volume(**options: object) -> np.ndarray:
    source = PhantomSource.model_validate({"n_volumes": 1, "n_slices": 6, **options})
    return np.stack(list(source.load(source.listing().slices)))


def test_values_are_a_body_in_air_or_on_nothing() -> None:
    hounsfield, magnitude = volume(modality="ct"), volume(modality="mri")
    assert hounsfield[:, 0, 0].tolist() == [-1000] * 6
    assert abs(np.median(hounsfield[:, 20:44, 20:44]) - 40) < 100
    assert magnitude.min() == 0
    assert 0.3 < np.median(magnitude[:, 20:44, 20:44]) < 0.7
    np.testing.assert_array_equal(volume(n_ellipses=0, modality="mri").max((1, 2)), 0.5)


def test_the_seed_decides() -> None:
    np.testing.assert_array_equal(volume(seed=3), volume(seed=3))
    assert not np.array_equal(volume(seed=3), volume(seed=4))


def test_the_picture_does_not_depend_on_the_matrix() -> None:
    fine, coarse = volume(size=192), volume(size=64)
    np.testing.assert_allclose(fine.reshape(6, 64, 3, 64, 3).mean((2, 4)).mean(), coarse.mean(), rtol=0.01)


def test_neighbouring_slices_are_alike() -> None:
    slices = volume(n_slices=16)
    steps = np.abs(np.diff(slices, axis=0)).mean((1, 2))
    assert steps.max() < 0.3 * np.abs(slices[0] - slices[7]).mean()
    assert steps == pytest.approx(steps[::-1], rel=0.5)
