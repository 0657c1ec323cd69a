"""NIfTI files that are damaged, claim too much, or state sizes in other units."""

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.nifti_file import read_scan
from tests.storage import nifti_files as files

DIMENSIONS, PIXDIM, UNITS, FORMS = 40, 80, 123, 252
"""Places in the header of NIfTI-1."""


def write(folder: Path, content: bytes, *, name: str = "a.nii.gz") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def volume_bytes(folder: Path) -> bytearray:
    return bytearray(files.save(folder / "good.nii", files.anatomy()).read_bytes())


def claiming(content: bytearray, *shape: int) -> bytearray:
    struct.pack_into("<8h", content, DIMENSIONS, len(shape), *shape, *[1] * (7 - len(shape)))
    return content


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("place", [-1, -5, -8], ids=["length", "checksum", "checksum"])
def test_the_checksum_and_the_length_of_a_compressed_file_are_compared(tmp_path: Path, place: int) -> None:
    packed = gzip.compress(volume_bytes(tmp_path))
    path = write(tmp_path, flipped(packed, place))
    with pytest.raises(SourceError, match="unreadable: damaged"):
        read_scan(path)


def test_a_changed_byte_is_noticed_wherever_it_lies(tmp_path: Path) -> None:
    packed = gzip.compress(bytes(volume_bytes(tmp_path)), mtime=0)
    expected = read_scan(write(tmp_path, packed)).values
    for place in range(0, len(packed), 7):
        path = write(tmp_path, flipped(packed, place))
        try:
            values = read_scan(path).values
        except SourceError:
            continue
        # Time, name and system in gzip's own header mean nothing.
        assert place < 10
        np.testing.assert_array_equal(values, expected)


SAME: dict[str, Callable[[bytes], bytes]] = {
    "two members": lambda content: gzip.compress(content[:400]) + gzip.compress(content[400:]),
    "zeros behind the stream": lambda content: gzip.compress(content) + bytes(512),
    "zeros behind the voxels": lambda content: gzip.compress(content + bytes(512)),
    "not compressed": lambda content: content,
}
OTHER: dict[str, Callable[[bytes], bytes]] = {
    "something behind the stream": lambda content: gzip.compress(content) + b"junk",
    "something behind the voxels": lambda content: gzip.compress(content + b"junk"),
    "twice": lambda content: gzip.compress(content) * 2,
    "cut": lambda content: gzip.compress(content)[:-4],
    "cut within": lambda content: gzip.compress(content[:-1]),
    "header alone": lambda content: gzip.compress(content[:348]),
}


@pytest.mark.parametrize("case", SAME)
def test_harmless_forms_of_a_file_are_read(tmp_path: Path, case: str) -> None:
    content = bytes(volume_bytes(tmp_path))
    expected = read_scan(tmp_path / "good.nii").values
    np.testing.assert_array_equal(read_scan(write(tmp_path, SAME[case](content))).values, expected)


@pytest.mark.parametrize("case", OTHER)
def test_what_does_not_fit_its_header_is_refused(tmp_path: Path, case: str) -> None:
    path = write(tmp_path, OTHER[case](bytes(volume_bytes(tmp_path))))
    with pytest.raises(SourceError, match="damaged|truncated"):
        read_scan(path)


def deflated_zeros(head: bytes, n_megabytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(head) + packer.compress(bytes(n_megabytes << 20)) + packer.flush()


BOMBS: dict[str, Callable[[bytearray], tuple[str, bytes]]] = {
    "a short file claims 800 cubed": lambda v: ("a.nii", bytes(claiming(v, 800, 800, 800)[:1000])),
    "a short compressed one too": lambda v: ("a.nii.gz", gzip.compress(claiming(v, 800, 800, 800))),
    "zeros that do inflate": lambda v: ("a.nii.gz", deflated_zeros(bytes(claiming(v, 400, 400, 300)[:352]), 100)),
    "zeros behind a small volume": lambda v: ("a.nii.gz", deflated_zeros(bytes(v), 100)),
    "thousands of empty parts": lambda v: ("a.nii.gz", gzip.compress(b"") * 20000 + gzip.compress(v)),
    "beyond all limits": lambda v: ("a.nii", bytes(claiming(v, 30000, 30000, 30000))),
}


@pytest.mark.parametrize("case", BOMBS)
def test_no_claim_is_inflated_or_allocated_before_it_is_judged(tmp_path: Path, case: str) -> None:
    name, content = BOMBS[case](volume_bytes(tmp_path))
    path = write(tmp_path, content, name=name)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="claims|follow the voxels|more than"):
            read_scan(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_a_file_with_holes_is_not_read(tmp_path: Path) -> None:
    content = claiming(volume_bytes(tmp_path), 400, 400, 300)
    path = write(tmp_path, bytes(content[:352]), name="a.nii")
    with path.open("r+b") as file:
        file.truncate(352 + 2 * 400 * 400 * 300)
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no holes")
    with pytest.raises(SourceError, match="was not read"):
        read_scan(path)


@pytest.mark.parametrize(("unit", "per_mm"), [("micron", 1000.0), ("mm", 1.0), ("meter", 0.001), ("unknown", 1.0)])
def test_sizes_and_places_are_in_mm_whatever_the_unit(tmp_path: Path, unit: str, per_mm: float) -> None:
    affine = np.diag([2 * per_mm, 1.5 * per_mm, 3 * per_mm, 1])
    affine[2, 3] = 11 * per_mm
    image = nibabel.Nifti1Image(files.anatomy(), affine)
    image.header.set_xyzt_units(unit, "sec")
    image.to_filename(tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    assert scan.spacing_mm == pytest.approx((1.5, 2.0))
    assert scan.positions_mm[1] == pytest.approx(14)
    assert scan.geometry["spacing_mm"] == list(scan.spacing_mm)


@pytest.mark.parametrize("size", [0.0, -3.0, np.nan, np.inf, 1e-30, 1e9])
def test_impossible_sizes_are_refused_by_name(tmp_path: Path, size: float) -> None:
    content = volume_bytes(tmp_path)
    struct.pack_into("<f", content, PIXDIM, size)
    struct.pack_into("<2h", content, FORMS, 0, 0)
    path = write(tmp_path, bytes(content), name="a.nii")
    with pytest.raises(SourceError, match="voxels .*pixdim"):
        read_scan(path)


def test_slices_wider_than_any_scanner_and_units_without_a_meaning_are_refused(tmp_path: Path) -> None:
    nibabel.Nifti1Image(files.anatomy((64, 64, 2)), np.diag([90, 90, 90, 1.0])).to_filename(tmp_path / "wide.nii")
    with pytest.raises(SourceError, match=r"5760 x 5760 mm.*states no unit"):
        read_scan(tmp_path / "wide.nii")
    content = volume_bytes(tmp_path)
    content[UNITS] = 5
    path = write(tmp_path, bytes(content), name="a.nii")
    with pytest.raises(SourceError, match="code 5"):
        read_scan(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_versions_and_byte_orders_are_read(tmp_path: Path, kind: type, order: str) -> None:
    header = kind.header_class(endianness=order)
    kind(files.anatomy(), np.diag([2, 2, 2, 1.0]), header).to_filename(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.nii.gz").values[2], files.axial(files.anatomy(), 2))
