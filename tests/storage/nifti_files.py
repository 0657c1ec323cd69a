"""NIfTI files for tests."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

SPACING_MM = (2.0, 1.5, 3.0)
"""To the right, to anterior, to superior."""


def anatomy(shape: tuple[int, int, int] = (6, 8, 5)) -> np.ndarray:
    """A volume without any symmetry, axes to the right, to anterior, to superior."""
    return np.random.default_rng(1).integers(10, 1000, shape).astype(np.int16)


def save(path: Path, volume: np.ndarray, *, codes: str = "RAS", dtype: type = np.int16) -> Path:
    """The volume stored with its axes in another order and direction; the affine says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = [-5, 7, 11]
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(codes)))
    turned = nibabel.orientations.apply_orientation(volume, turn).astype(dtype)
    nibabel.Nifti1Image(turned, affine @ inv_ornt_aff(turn, volume.shape)).to_filename(path)
    return path


def axial(volume: np.ndarray, index: int) -> np.ndarray:
    """The slice as it should look: anterior on top, the patient's right on the left."""
    x, y, _ = volume.shape
    return np.array([[volume[x - 1 - column, y - 1 - row, index] for column in range(x)] for row in range(y)])
