"""CT that surely is not in Hounsfield units is refused by its values; what may be is taken."""

from pathlib import Path

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.dicom import DicomSource
from storage.sources.dicom.hounsfield import not_hounsfield_reason
from tests.storage import dicom_files as files


def chest() -> np.ndarray:
    """HU of a lopsided chest, (64, 64), with noise."""
    y, x = np.mgrid[:64, :64] / 64 - 0.5
    hu = np.full((64, 64), -1000.0)
    hu[(x / 0.42) ** 2 + (y / 0.33) ** 2 < 1] = 40
    hu[((x + 0.2) / 0.1) ** 2 + ((y + 0.05) / 0.15) ** 2 < 1] = -850
    hu[((x - 0.15) / 0.06) ** 2 + ((y - 0.12) / 0.06) ** 2 < 1] = 700
    return hu + np.random.default_rng(0).normal(0, 12, hu.shape)


def soft_tissue() -> np.ndarray:
    """HU cut out of an abdomen without any air: muscle, fat, a bone."""
    hu = np.full((64, 64), 50.0)
    hu[:30], hu[40:50, 40:50] = -100, 600
    return hu + np.random.default_rng(0).normal(0, 15, hu.shape)


HOUNSFIELD = {
    "chest": chest(),
    "chest without noise": np.rint(chest() / 50) * 50,
    "outside of the field of view": np.where(chest() < -900, -3024, chest()),
    "no air": soft_tissue(),
    "a head's middle": np.random.default_rng(0).normal(30, 12, (64, 64)) + 60 * (np.mgrid[:64, :64][0] > 50),
    "bone, mostly": np.where(np.mgrid[:64, :64][0] < 20, -900.0, np.where(np.mgrid[:64, :64][1] < 40, 400.0, 1500.0)),
}

OTHER = {
    "plus 1024": chest().clip(-1024) + 1024,
    "a picture": (chest() + 1000).clip(0, 1700) / 1700 * 255,
    "from 0 to 1": (chest() + 1000).clip(0, 1700) / 1700,
    "mean 0, deviation 1": (chest() - chest().mean()) / chest().std(),
    "inverted": 3071 - chest() - 1024,
    "turned over at 0": -chest(),
    "the offset twice": chest() - 1024,
    "without tissue": np.random.default_rng(0).normal(-1000, 10, (64, 64)),
    "a constant": np.full((64, 64), 7.4),
}


@pytest.mark.parametrize("name", HOUNSFIELD)
def test_hounsfield_units_are_taken(name: str) -> None:
    assert not_hounsfield_reason(HOUNSFIELD[name].ravel()) is None


@pytest.mark.parametrize("name", OTHER)
def test_other_values_are_refused(name: str) -> None:
    assert not_hounsfield_reason(OTHER[name].ravel())


def test_a_volume_is_judged_as_a_whole_and_each_of_its_files_is_named(tmp_path: Path) -> None:
    for number in range(3):
        ds = files.dataset((chest() + 1024).clip(0).astype(np.uint16), number=number, RescaleIntercept=0)
        files.save(tmp_path / f"{number}.dcm", ds)
    with pytest.raises(SourceError, match=r"0\.dcm: .*no Hounsfield units.*; 1\.dcm: .*; 2\.dcm: "):
        DicomSource(path=str(tmp_path)).listing()
    # One slice of air alone, beside a body, is no reason.
    air = files.dataset(np.full((24, 20), 24, np.uint16), series="b", number=0)
    files.save(tmp_path / "b0.dcm", air)
    files.save(tmp_path / "b1.dcm", files.dataset(files.stored_slice(1, (24, 20)), series="b", number=1))
    assert [record.file for record in DicomSource(path=str(tmp_path)).listing().slices] == ["b0.dcm", "b1.dcm"]
