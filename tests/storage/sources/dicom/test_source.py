"""DICOM folders: what is read is right, what cannot be read is named with a reason."""

import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    UID,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from storage.errors import SourceError
from storage.listing import Listing
from storage.sources.dicom import DicomSource
from storage.sources.source import Select, mri_offset_and_scale
from tests.storage import dicom_files as files


def listing(folder: Path, **options: Any) -> Listing:
    return DicomSource(path=str(folder), **options).listing()


def reasons(found: Listing) -> dict[str, str]:
    return {item.file: item.reason for item in found.rejected}


def loaded(folder: Path, **options: Any) -> list[np.ndarray]:
    source = DicomSource(path=str(folder), **options)
    return list(source.load(source.listing().slices))


def test_slices_are_sorted_by_position_whatever_the_files_are_called(tmp_path: Path) -> None:
    order = [3, 0, 4, 1, 2]
    files.write_series(tmp_path, order)
    found = listing(tmp_path)
    assert [record.position_mm for record in found.slices] == [0, 5, 10, 15, 20]
    assert [record.file for record in found.slices] == [f"{order.index(i):04d}.dcm" for i in range(5)]
    for number, values in enumerate(loaded(tmp_path)):
        np.testing.assert_array_equal(values, files.stored_slice(number).astype(np.float32) - 1024)
    (geometry,) = found.volumes.values()
    assert geometry["slice_spacing_mm"] == 5
    assert geometry["units"] == "HU"


def test_position_is_along_the_normal_of_oblique_slices(tmp_path: Path) -> None:
    normal = np.cross([0, 1, 0], [0, 0, -1])
    for number in range(3):
        corner = list(normal * 4.0 * (2 - number) + np.array([7.0, 3.0, 1.0]) * [0, 1, 1])
        tags = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "ImagePositionPatient": corner}
        files.save(tmp_path / f"{number}.dcm", files.dataset(files.stored_slice(number), number=number, **tags))
    found = listing(tmp_path)
    assert [record.file for record in found.slices] == ["2.dcm", "1.dcm", "0.dcm"]
    np.testing.assert_allclose(np.diff([record.position_mm for record in found.slices]), 4)


def test_two_series_in_one_folder_are_two_volumes(tmp_path: Path) -> None:
    for number in range(3):
        for series in "ab":
            tags = {"SliceThickness": {"a": 5, "b": 2}[series]}
            ds = files.dataset(files.stored_slice(number), series=series, number=number, **tags)
            files.save(tmp_path / f"{number}{series}", ds)
    found = listing(tmp_path)
    assert len(found.volumes) == 2
    volumes = [record.volume_id for record in found.slices]
    assert volumes == sorted(volumes)
    assert len({record.slice_id for record in found.slices}) == 6
    assert found.volumes[files.uid("b")]["SliceThickness"] == 2


@pytest.mark.parametrize("syntax", files.SYNTAXES)
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    files.save(tmp_path / "x", files.dataset(files.stored_slice()), syntax=syntax)
    np.testing.assert_array_equal(loaded(tmp_path)[0], files.stored_slice().astype(np.float32) - 1024)


def test_run_length_encoded(tmp_path: Path) -> None:
    ds = files.dataset(files.stored_slice())
    ds.compress(RLELossless)
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(loaded(tmp_path)[0], files.stored_slice().astype(np.float32) - 1024)


def test_pydicoms_ct_small() -> None:
    path = get_testdata_file("CT_small.dcm")
    found = DicomSource(path=str(path)).listing()
    (record,) = found.slices
    assert (record.subject_id, record.shape, record.file) == ("1CT1", (128, 128), "CT_small.dcm")
    assert record.spacing_mm == pytest.approx((0.661468, 0.661468))
    ds = pydicom.dcmread(str(path))
    expected = ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    (values,) = DicomSource(path=str(path)).load(found.slices)
    inside = ds.pixel_array != ds.get("PixelPaddingValue", 99999)
    np.testing.assert_array_equal(values[inside], expected[inside])


def test_pydicoms_mr_small_in_percentile_units() -> None:
    path = str(get_testdata_file("MR_small.dcm"))
    source = DicomSource(path=path, modality="mri", percentile=99)
    (record,) = source.listing().slices
    stored = pydicom.dcmread(path).pixel_array.astype(np.float32)
    foreground = stored[stored > 0.05 * np.percentile(stored, 99.9)]
    assert record.scale == pytest.approx(np.percentile(foreground, 99))
    np.testing.assert_allclose(next(source.load([record])), stored / record.scale, rtol=1e-6)


def test_one_scale_for_a_whole_mr_volume_whatever_slices_are_chosen(tmp_path: Path) -> None:
    # Slice k is k + 1 times as bright: a scale of some slices is another one.
    for number in range(6):
        ds = files.dataset(files.body(number) * (number + 1), number=number, **files.MR)
        files.save(tmp_path / f"{number}.dcm", ds)
    whole = np.stack([files.body(number) * (number + 1) for number in range(6)]).astype(np.float32)
    _, scale = mri_offset_and_scale(whole, 99.5)
    for select in (Select(), Select(every=4), Select(max_slices=2), Select(every=2, min_foreground=0.2)):
        found = listing(tmp_path, modality="mri", select=select)
        assert {record.scale for record in found.slices} == {scale}
        assert next(iter(found.volumes.values()))["scale"] == scale
    for number, values in enumerate(loaded(tmp_path, modality="mri")):
        np.testing.assert_allclose(values, whole[number] / np.float32(scale), rtol=1e-6)


def test_names_of_patients_are_never_kept(tmp_path: Path) -> None:
    files.write_series(tmp_path, [0, 1])
    text = listing(tmp_path).model_dump_json()
    assert "Doe" not in text
    assert "1970" not in text
    assert "P1" in text


def test_subjects_can_be_chosen(tmp_path: Path) -> None:
    for i, patient in enumerate(("P1", "P2", "P3")):
        files.write_series(tmp_path / patient, [0, 1], series=f"s{i}", PatientID=patient)
    assert listing(tmp_path).subjects() == ["P1", "P2", "P3"]
    assert listing(tmp_path, exclude_subjects=("P2",)).subjects() == ["P1", "P3"]
    assert listing(tmp_path, only_subjects=("P2", "P3")).subjects() == ["P2", "P3"]
    with pytest.raises(SourceError, match="only_subjects"):
        listing(tmp_path, only_subjects=("P9",))


def test_slices_can_be_chosen(tmp_path: Path) -> None:
    files.write_series(tmp_path, list(range(9)))

    def positions(**choice: Any) -> list[float]:
        return [record.position_mm / 5 for record in listing(tmp_path, select=Select(**choice)).slices]

    assert positions(every=4) == [0, 4, 8]
    assert positions(max_slices=3) == [0, 4, 8]
    assert positions(every=2, max_slices=2) == [0, 8]
    assert positions(max_slices=1) == [4]
    empty = files.dataset(np.zeros((12, 10), np.uint16), number=4)
    files.save(tmp_path / "0004.dcm", empty)
    assert positions(min_foreground=0.01) == [0, 1, 2, 3, 5, 6, 7, 8]


BAD = {
    "another_size.dcm": ("6 x 10 pixels, but most of its series has 12 x 10", {"shape": (6, 10)}),
    "localizer.dcm": ("orientation", {"tags": {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}}),
    "mr.dcm": ("MR Image Storage, this source takes CT", {"tags": {"SOPClassUID": MRImageStorage}}),
    "capture.dcm": ("Secondary Capture", {"tags": {"SOPClassUID": SecondaryCaptureImageStorage}}),
    "no_pixels.dcm": ("no PixelData", {"tags": {"PixelData": None}}),
    "no_rows.dcm": ("not an image", {"tags": {"Rows": None}}),
    "no_spacing.dcm": ("PixelSpacing", {"tags": {"PixelSpacing": None}}),
    "no_slope.dcm": ("Hounsfield", {"tags": {"RescaleSlope": None}}),
    "no_series.dcm": ("SeriesInstanceUID", {"tags": {"SeriesInstanceUID": None}}),
    "colour.dcm": ("colour", {"tags": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}}),
    "pet.dcm": ("Modality is 'PT'", {"tags": {"Modality": "PT"}}),
    "frames.dcm": ("multi-frame", {"tags": {"NumberOfFrames": 4}}),
    "huge.dcm": ("60000 x 60000", {"tags": {"Rows": 60000, "Columns": 60000}}),
    "short.dcm": ("truncated: 10 bytes of pixel data, 240", {"tags": {"PixelData": b"0123456789"}}),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_the_reason_and_the_others_are_kept(tmp_path: Path, name: str) -> None:
    reason, change = BAD[name]
    files.write_series(tmp_path, [0, 1, 2])
    stored = files.stored_slice(9, change.get("shape", (12, 10)))
    files.save(tmp_path / name, files.dataset(stored, number=9, **change.get("tags", {})))
    found = listing(tmp_path)
    assert len(found.slices) == 3
    assert list(reasons(found)) == [name]
    assert reason in reasons(found)[name]


@pytest.mark.parametrize("syntax", files.SYNTAXES)
@pytest.mark.parametrize("part", [0.02, 0.4, 0.75, 0.97])
def test_truncated_files_are_rejected(tmp_path: Path, syntax: str, part: float) -> None:
    files.write_series(tmp_path, [0, 1])
    victim = files.save(tmp_path / "victim.dcm", files.dataset(files.stored_slice(2), number=2), syntax=syntax)
    content = victim.read_bytes()
    victim.write_bytes(content[: int(len(content) * part)])
    found = listing(tmp_path)
    assert len(found.slices) == 2
    assert list(reasons(found)) == ["victim.dcm"]


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_every_truncation_and_flip_is_survived(tmp_path: Path) -> None:
    # Untrusted input: whatever is wrong with a file, the others are listed and nothing escapes.
    files.write_series(tmp_path, [0, 1])
    good = files.save(tmp_path / "victim.dcm", files.dataset(files.stored_slice(2), number=2)).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(good)
        for position in rng.integers(128, 1100, 4):
            content[position] = rng.integers(256)
        (tmp_path / "victim.dcm").write_bytes(content[: rng.integers(200, len(good))])
        assert len(listing(tmp_path).slices) >= 2


def test_a_file_that_is_called_dcm_but_is_something_else(tmp_path: Path) -> None:
    files.write_series(tmp_path, [0])
    (tmp_path / "page.dcm").write_text("<html>404 not found, sorry about that</html>" * 20)
    (tmp_path / "empty.dcm").write_bytes(b"")
    found = listing(tmp_path)
    assert sorted(reasons(found)) == ["empty.dcm", "page.dcm"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    files.write_series(tmp_path / "a", [0])
    files.write_series(tmp_path / ".hidden", [1])
    shutil.copy(tmp_path / ".hidden/0000.dcm", tmp_path / "DICOMDIR")
    (tmp_path / "LICENSE").write_text("text")
    found = listing(tmp_path)
    assert (len(found.slices), found.rejected) == (1, ())


def test_copies_of_a_slice_are_named(tmp_path: Path) -> None:
    files.write_series(tmp_path, [0, 1])
    shutil.copy(tmp_path / "0001.dcm", tmp_path / "copy.dcm")
    found = listing(tmp_path)
    assert len(found.slices) == 2
    assert "0001.dcm" in reasons(found)["copy.dcm"]


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    files.write_series(tmp_path / "a", [0, 1])
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert len(listing(tmp_path).slices) == 2


def test_compressed_without_a_decoder_names_syntax_and_package(tmp_path: Path) -> None:
    candidates = [JPEGLSLossless, JPEGLossless, JPEG2000Lossless]
    missing = [syntax for syntax in candidates if not get_decoder(syntax).is_available]
    if not missing:
        pytest.skip("every decoder is installed here")
    files.write_series(tmp_path, [0])
    ds = files.dataset(files.stored_slice(1), number=1, PixelData=encapsulate([b"\xff\xd8 not decoded \xff\xd9"]))
    ds["PixelData"].VR = "OB"
    files.save(tmp_path / "x.dcm", ds, syntax=missing[0])
    reason = reasons(listing(tmp_path))["x.dcm"]
    assert UID(missing[0]).name in reason
    assert "pip install pylibjpeg" in reason


def test_compressed_beyond_decoding(tmp_path: Path) -> None:
    files.write_series(tmp_path, [0])
    ds = files.dataset(files.stored_slice(1), number=1, PixelData=encapsulate([b"\0\0\0\1"]))
    files.save(tmp_path / "x.dcm", ds, syntax="1.2.840.10008.1.2.4.102")
    assert "cannot be decoded" in reasons(listing(tmp_path))["x.dcm"]


def test_a_deflated_bomb_is_not_unpacked(tmp_path: Path) -> None:
    files.write_series(tmp_path, [0])
    path = files.save(tmp_path / "bomb.dcm", files.dataset(files.stored_slice(1)), syntax=files.SYNTAXES[2])
    meta_length = pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = b"".join(deflater.compress(bytes(1 << 24)) for _ in range(17)) + deflater.flush()
    path.write_bytes(path.read_bytes()[: 144 + meta_length] + zeros)
    assert "unpacks to more than" in reasons(listing(tmp_path))["bomb.dcm"]


def test_no_dicom_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("text")
    with pytest.raises(SourceError, match=r"no DICOM file in .*preamble.*give the folder"):
        listing(tmp_path)
    with pytest.raises(SourceError, match="does not exist"):
        listing(tmp_path / "nowhere")


def test_nothing_usable_gives_the_reasons(tmp_path: Path) -> None:
    files.write_series(tmp_path, [0, 1], PixelSpacing=None)
    with pytest.raises(SourceError, match=r"all 2 files were rejected \(0000\.dcm: PixelSpacing"):
        listing(tmp_path)


def test_a_moved_folder_is_the_same_data_and_a_changed_pixel_is_not(tmp_path: Path) -> None:
    files.write_series(tmp_path / "here", [2, 0, 1])
    before = listing(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there/deep")
    after = listing(tmp_path / "there/deep")
    assert after == before
    assert after.fingerprint == before.fingerprint
    stored = files.stored_slice(1)
    stored[5, 5] += 1
    files.save(tmp_path / "here/0002.dcm", files.dataset(stored, number=1))
    assert listing(tmp_path / "here").fingerprint != before.fingerprint


def test_load_reports_what_has_gone(tmp_path: Path) -> None:
    paths = files.write_series(tmp_path, [0, 1])
    found = listing(tmp_path)
    paths[1].unlink()
    with pytest.raises(SourceError, match=r"0001\.dcm.*ingest it anew"):
        list(DicomSource(path=str(tmp_path)).load(found.slices))


def test_load_cannot_be_led_out_of_the_folder(tmp_path: Path) -> None:
    files.write_series(tmp_path / "in", [0])
    files.write_series(tmp_path / "out", [1])
    (record,) = listing(tmp_path / "in").slices
    with pytest.raises(SourceError, match="relative"):
        list(DicomSource(path=str(tmp_path / "in")).load([record.model_copy(update={"file": "../out/0000.dcm"})]))
