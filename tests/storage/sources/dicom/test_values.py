"""CT volumes whose values do not look like Hounsfield units, whatever their tags say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.dicom import DicomSource
from storage.sources.source import Select
from tests.storage import dicom_files as files


def write(folder: Path, series: str, slices: list[np.ndarray], **tags: Any) -> None:
    for number, stored in enumerate(slices):
        ds = files.dataset(stored.astype(np.uint16), series=series, number=number, **tags)
        files.save(folder / f"{series}{number}.dcm", ds)


def test_a_volume_that_is_not_in_hounsfield_units_is_refused_file_by_file(tmp_path: Path) -> None:
    bodies = [files.stored_slice(number, (24, 20)) for number in range(3)]
    write(tmp_path, "a", bodies, RescaleIntercept=0, RescaleType="HU")
    for select in (Select(), Select(every=2)):
        with pytest.raises(SourceError, match=r"a0\.dcm: .*not in Hounsfield units.*; a1\.dcm: .*; a2\.dcm: "):
            DicomSource(path=str(tmp_path), select=select).listing()
    source = DicomSource(path=str(tmp_path), takes_any_values=True)
    np.testing.assert_array_equal(list(source.load(source.listing().slices)), np.float32(bodies))


def test_a_slice_of_air_beside_a_body_is_no_reason(tmp_path: Path) -> None:
    air = np.full((24, 20), 24)
    write(tmp_path, "a", [air, files.stored_slice(1, (24, 20)), air])
    assert len(DicomSource(path=str(tmp_path)).listing().slices) == 3
    write(tmp_path, "b", [air])
    assert [item.file for item in DicomSource(path=str(tmp_path)).listing().rejected] == ["b0.dcm"]


def test_padding_is_no_air(tmp_path: Path) -> None:
    padded = files.stored_slice(0, (24, 20)) + 63536 * (np.mgrid[:24, :20][1] > 15)
    write(tmp_path, "a", [padded], RescaleIntercept=0, PixelPaddingValue=63536, PixelPaddingRangeLimit=65535)
    with pytest.raises(SourceError, match="not in Hounsfield units"):
        DicomSource(path=str(tmp_path)).listing()
