"""Values of pixels: what the tags make of what is stored, and where there is nothing but padding."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from storage.errors import SourceError
from storage.sources.dicom import DicomSource
from storage.sources.dicom.pixels import read_values
from tests.storage import dicom_files as files


def values_of(tmp_path: Path, stored: np.ndarray, modality: Any = "ct", **tags: Any) -> np.ndarray:
    return read_values(files.save(tmp_path / "x.dcm", files.dataset(stored, **tags)), modality)


def loaded(folder: Path, **options: Any) -> list[np.ndarray]:
    source = DicomSource(path=str(folder), **options)
    return list(source.load(source.listing().slices))


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, 0), (0.5, -1000.5), (1.2207, -1e3)])
@pytest.mark.parametrize("dtype", ["uint16", "int16", "uint8"])
def test_slope_and_intercept_are_exact(tmp_path: Path, slope: float, intercept: float, dtype: str) -> None:
    stored = (files.stored_slice() % 250).astype(dtype)
    ds = files.dataset(stored, RescaleSlope=slope, RescaleIntercept=intercept)
    values = read_values(files.save(tmp_path / "x", ds), "ct")
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, (stored.astype(np.float64) * slope + intercept).astype(np.float32))


def test_padding_becomes_air(tmp_path: Path) -> None:
    # -2000 as PixelPaddingValue of signed pixels, in both ways that scanners write it, and a range of values.
    stored = files.stored_slice(dtype="int16")
    stored[:3], stored[3] = -2000, -1998
    expected = stored.astype(np.float32) - 1024
    signed = files.dataset(stored, number=0, PixelPaddingValue=-2000)
    unsigned = files.dataset(stored, number=1, PixelPaddingValue=-2000)
    unsigned["PixelPaddingValue"] = pydicom.DataElement(0x00280120, "US", 63536)
    ranged = files.dataset(stored, number=2, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1998)
    for name, ds in (("0", signed), ("1", unsigned), ("2", ranged)):
        files.save(tmp_path / name, ds)
    first, second, third = loaded(tmp_path)
    expected[:3] = -1000
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected)
    expected[3] = -1000
    np.testing.assert_array_equal(third, expected)


def test_a_padding_value_that_is_also_tissue_is_not_believed(tmp_path: Path) -> None:
    stored = files.stored_slice(dtype="int16") - 1000
    stored[0] = 0
    files.save(tmp_path / "x", files.dataset(stored, RescaleIntercept=0, PixelPaddingValue=0))
    np.testing.assert_array_equal(loaded(tmp_path)[0], stored)


@pytest.mark.parametrize("dtype", ["uint16", "int16"])
@pytest.mark.parametrize("high", [15, 13, 11])
def test_values_that_stand_higher_than_the_lowest_bit(tmp_path: Path, dtype: str, high: int) -> None:
    stored = files.stored_slice() - (1500 if dtype == "int16" else 0)
    shifted = (stored.astype(np.int32) << (high - 11)) | ((1 << (high - 11)) - 1)
    raw = (shifted & ((1 << (high + 1)) - 1)).astype("uint16").view(dtype)
    values = values_of(tmp_path, raw, BitsStored=12, HighBit=high)
    np.testing.assert_array_equal(values, stored.astype(dtype).astype(np.float32) - 1024)


def test_a_wrong_high_bit_alone_changes_nothing(tmp_path: Path) -> None:
    values = values_of(tmp_path, files.stored_slice(), BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(values, files.stored_slice().astype(np.float32) - 1024)


def test_unused_bits_are_not_read(tmp_path: Path) -> None:
    stored = files.stored_slice()
    values = values_of(tmp_path, stored | 0xA000, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(values, stored.astype(np.float32) - 1024)


def lut(entries: list[int], *, first: int, kind: str) -> Sequence:
    item = pydicom.Dataset()
    item.LUTDescriptor, item.ModalityLUTType, item.LUTData = [len(entries), first, 16], kind, entries
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


def test_a_lookup_table_comes_in_place_of_slope_and_intercept(tmp_path: Path) -> None:
    stored = np.arange(120, dtype=np.uint16).reshape(12, 10)
    table = [7 * i for i in range(50)]
    tags = {**files.MR, "ModalityLUTSequence": lut(table, first=20, kind="US")}
    values = values_of(tmp_path, stored, "mri", **tags)
    np.testing.assert_array_equal(values, 7.0 * (stored.astype(float) - 20).clip(0, 49))


@pytest.mark.parametrize("slope", ["0", "1e39", "-1e300"])
def test_slopes_that_make_no_values(tmp_path: Path, slope: str) -> None:
    with pytest.raises(SourceError, match="RescaleSlope|too large"):
        values_of(tmp_path, files.stored_slice(), RescaleSlope=slope)


@pytest.mark.parametrize("text", ["inf", "nan", "1,0", "one"])
def test_slopes_that_are_no_numbers(tmp_path: Path, text: str) -> None:
    path = files.save(tmp_path / "x.dcm", files.dataset(files.stored_slice(), RescaleSlope="1.234567"))
    path.write_bytes(path.read_bytes().replace(b"1.234567", text.encode().ljust(8)))
    with pytest.raises(SourceError):
        read_values(path, "ct")


def mr_volume(folder: Path, change: Any, **tags: Any) -> None:
    """Three slices of the body, whose stored values go through ``change``."""
    for number in range(3):
        ds = files.dataset(change(files.body(number)), number=number, **{**files.MR, **tags})
        files.save(folder / f"{number}.dcm", ds)


def corners(stored: np.ndarray, value: int, dtype: str = "int16") -> np.ndarray:
    padded = stored.astype(dtype)
    padded[:3], padded[-2:], padded[:, -4:] = value, value, value
    return padded


@pytest.mark.parametrize(
    ("value", "dtype", "tags"),
    [
        (-32768, "int16", {}),
        (-1, "int16", {}),
        (0, "uint16", {}),
        (65535, "uint16", {}),
        (-2000, "int16", {"PixelPaddingRangeLimit": -1990}),
    ],
)
def test_padding_of_mr_is_background_and_counts_for_nothing(
    tmp_path: Path, value: int, dtype: str, tags: dict[str, Any]
) -> None:
    mr_volume(tmp_path, lambda stored: corners(stored, value, dtype), PixelPaddingValue=value, **tags)
    for number, values in enumerate(loaded(tmp_path, modality="mri")):
        np.testing.assert_allclose(values, files.body(number) / 900, rtol=1e-6)


def test_a_padding_value_between_the_tissues_of_mr_is_not_believed(tmp_path: Path) -> None:
    mr_volume(tmp_path, lambda stored: stored, PixelPaddingValue=300)
    np.testing.assert_allclose(loaded(tmp_path, modality="mri")[0], files.body(0) / 900, rtol=1e-6)


@pytest.mark.parametrize("bright", [900, 310])
def test_inverted_mr_is_turned_over(tmp_path: Path, bright: int) -> None:
    def inverted(stored: np.ndarray) -> np.ndarray:
        stored[stored == 900] = bright
        stored[0, 0] = 4095  # One dead pixel, the darkest of all as it is shown, is not what black is.
        stored[1:, 0] = 0
        return np.where(stored == 4095, 4095, 4000 - stored).astype(np.uint16)

    mr_volume(tmp_path, inverted, PhotometricInterpretation="MONOCHROME1")
    for number, values in enumerate(loaded(tmp_path, modality="mri")):
        expected = np.where(files.body(number) == 900, bright, files.body(number)) / bright
        np.testing.assert_allclose(values[:, 1:], expected[:, 1:], atol=1e-6)


def test_hounsfield_units_mean_the_same_in_monochrome1(tmp_path: Path) -> None:
    values = values_of(tmp_path, files.stored_slice(), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(values, files.stored_slice().astype(np.float32) - 1024)


def test_philips_slopes_differ_by_slice(tmp_path: Path) -> None:
    for number, slope in enumerate((0.5, 1.0, 2.0)):
        stored = (files.body(number) / slope).astype(np.uint16)
        ds = files.dataset(stored, number=number, **{**files.MR, "RescaleSlope": slope, "RescaleIntercept": 0})
        files.save(tmp_path / f"{number}.dcm", ds)
    for number, values in enumerate(loaded(tmp_path, modality="mri")):
        np.testing.assert_allclose(values, files.body(number) / 900, rtol=1e-6)


def compressed(ds: pydicom.FileDataset, frame: bytes, syntax: str, path: Path) -> Path:
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    return files.save(path, ds, syntax=syntax)


def test_a_frame_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    # JPEG 2000: a header for 60000 x 60000 pixels; run lengths: one segment that says to lie beyond the end.
    size = struct.pack(">HHIIIIIIIIHBBB", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1, 15, 1, 1)
    huge = b"\xff\x4f\xff\x51" + size + b"\xff\xd9"
    beyond = struct.pack("<16I", 2, 64, 1 << 30, *[0] * 13) + b"\x7f" * 8
    for name, frame, syntax in (("j2k", huge, JPEG2000Lossless), ("rle", beyond, RLELossless)):
        path = compressed(files.dataset(files.stored_slice()), frame, syntax, tmp_path / f"{name}.dcm")
        with pytest.raises(SourceError):
            read_values(path, "ct")


@pytest.mark.parametrize(("kind", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
def test_frames_of_another_size_are_refused(tmp_path: Path, kind: str, syntax: str) -> None:
    # Turned by 90 degrees, a frame has just as many pixels.
    for shape in ((12, 10), (10, 12), (16, 16)):
        content = io.BytesIO()
        Image.fromarray(files.stored_slice(0, shape, "uint8")).save(content, kind)
        ds = files.dataset(files.stored_slice(dtype="uint8"))
        path = compressed(ds, content.getvalue(), syntax, tmp_path / "x.dcm")
        if shape == (12, 10):
            assert read_values(path, "ct").shape == shape
            continue
        with pytest.raises(SourceError, match=f"{shape[0]} x {shape[1]}, not 12 x 10"):
            read_values(path, "ct")


def test_compressed_pixels_that_are_far_too_long_are_not_decoded(tmp_path: Path) -> None:
    path = compressed(files.dataset(files.stored_slice()), bytes(1 << 17), RLELossless, tmp_path / "x.dcm")
    with pytest.raises(SourceError, match="more than 240 bytes can need"):
        read_values(path, "ct")
