"""Files that are no honest DICOM: bombs, claims, cuts and nests, each a reason and never an end of the run."""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.filereader import read_file_meta_info

from storage.listing import Listing
from storage.sources.dicom import DicomSource
from tests.storage import dicom_files as files

DEFLATED = files.SYNTAXES[2]


def listing(folder: Path, **options: Any) -> Listing:
    return DicomSource(path=str(folder), **options).listing()


def reason_of(folder: Path, name: str, **options: Any) -> str:
    """Why a file was left out, beside a good one."""
    files.write_series(folder / "good", [0, 1], series="good")
    found = listing(folder, **options)
    assert len(found.slices) == 2
    return next(item.reason for item in found.rejected if item.file == name)


def packed_zeros(n_bytes: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join(deflater.compress(bytes(1 << 24)) for _ in range(n_bytes >> 24)) + deflater.flush()


@pytest.mark.parametrize("has_preamble", [True, False])
@pytest.mark.parametrize("has_length", [True, False])
def test_a_deflated_bomb_is_not_unpacked(tmp_path: Path, has_preamble: bool, has_length: bool) -> None:
    path = files.save(tmp_path / "bomb.dcm", files.dataset(files.stored_slice(1)), syntax=DEFLATED)
    content = path.read_bytes()
    end = 144 + read_file_meta_info(path).FileMetaInformationGroupLength
    meta = content[132:end] if has_length else content[144:end]
    path.write_bytes((content[:132] if has_preamble else b"") + meta + packed_zeros(1 << 28))
    assert "unpacks to more than" in reason_of(tmp_path, "bomb.dcm")


def test_a_deflated_file_without_a_preamble_is_read(tmp_path: Path) -> None:
    path = files.save(tmp_path / "x.dcm", files.dataset(files.stored_slice()), syntax=DEFLATED)
    path.write_bytes(path.read_bytes()[132:])
    source = DicomSource(path=str(tmp_path))
    (values,) = source.load(source.listing().slices)
    np.testing.assert_array_equal(values, files.stored_slice().astype(np.float32) - 1024)


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
def test_a_deflated_file_that_was_cut_is_refused(tmp_path: Path, part: float) -> None:
    path = files.save(tmp_path / "cut.dcm", files.dataset(files.stored_slice(1)), syntax=DEFLATED)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert "truncated" in reason_of(tmp_path, "cut.dcm")


@pytest.mark.parametrize(
    "spacing", ["1e-300", "0", "-1", "1e9", "0.0001", "60", "300", "1e300", "inf", "nan", "0,75", ""]
)
def test_impossible_spacings_are_refused(tmp_path: Path, spacing: str) -> None:
    ds = files.dataset(files.stored_slice(1), PixelSpacing=["0.123456789", "0.5"])
    path = files.save(tmp_path / "x.dcm", ds)
    path.write_bytes(path.read_bytes().replace(b"0.123456789", spacing.encode().ljust(11)))
    assert "PixelSpacing" in reason_of(tmp_path, "x.dcm") or "unreadable" in reason_of(tmp_path, "x.dcm")


def test_the_spacing_of_a_detector_is_none_of_pixels(tmp_path: Path) -> None:
    ds = files.dataset(files.stored_slice(1), PixelSpacing=None, ImagerPixelSpacing=[0.5, 0.5])
    files.save(tmp_path / "x.dcm", ds)
    assert "PixelSpacing" in reason_of(tmp_path, "x.dcm")


def test_pixels_of_floats_are_refused(tmp_path: Path) -> None:
    ds = files.dataset(files.stored_slice(1), PixelData=None, FloatPixelData=bytes(480), BitsAllocated=32)
    files.save(tmp_path / "x.dcm", ds)
    assert "no PixelData" in reason_of(tmp_path, "x.dcm")


def test_an_enhanced_image_of_one_frame_is_called_by_its_name(tmp_path: Path) -> None:
    ds = files.dataset(files.stored_slice(1), SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=1)
    files.save(tmp_path / "x.dcm", ds)
    assert "Enhanced CT Image Storage" in reason_of(tmp_path, "x.dcm")


def test_sequences_in_sequences_without_end(tmp_path: Path) -> None:
    path = files.save(tmp_path / "x.dcm", files.dataset(files.stored_slice(1)))
    # An item in a sequence in an item ..., 100,000 deep, none of which ends.
    nest = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 100_000
    content = path.read_bytes()
    place = content.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(content[:place] + nest + content[place:])
    assert reason_of(tmp_path, "x.dcm")


def test_a_pipe_among_the_files_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    assert "regular file" in reason_of(tmp_path, "pipe.dcm")


def test_an_element_that_claims_more_than_the_file_holds(tmp_path: Path) -> None:
    path = files.save(tmp_path / "x.dcm", files.dataset(files.stored_slice(1)))
    content = path.read_bytes()
    place = content.index(b"\x10\x00\x10\x00PN")
    path.write_bytes(content[:place] + b"\x09\x00\x10\x10UN\0\0\xf0\xff\xff\x7f" + content[place:])
    assert "claims more bytes" in reason_of(tmp_path, "x.dcm")
