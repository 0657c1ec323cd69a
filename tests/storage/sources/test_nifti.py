"""NIfTI volumes: the same slices however they are stored."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources import nifti
from storage.sources.nifti import NiftiSource
from storage.sources.source import Select
from tests.storage import nifti_files as files


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "RPI", "ASR", "SLP", "PIL"])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_every_storage_orientation_gives_the_same_upright_slices(tmp_path: Path, codes: str, name: str) -> None:
    volume = files.anatomy() - 700
    files.save(tmp_path / name, volume, codes=codes)
    source = NiftiSource(path=str(tmp_path), modality="ct")
    found = source.listing()
    slices = list(source.load(found.slices))
    assert len(slices) == 5
    for index, (record, values) in enumerate(zip(found.slices, slices, strict=True)):
        np.testing.assert_array_equal(values, files.axial(volume, index))
        assert record.spacing_mm == (1.5, 2.0)
        assert record.shape == (8, 6)
        assert record.position_mm == 11 + 3.0 * index
    assert next(iter(found.volumes.values()))["stored_orientation"] == codes


def test_mri_is_in_units_of_the_foregrounds_percentile(tmp_path: Path) -> None:
    volume = np.zeros((20, 20, 4), np.int16)
    volume[5:15, 5:15] = np.arange(400).reshape(10, 10, 4) + 600
    files.save(tmp_path / "a.nii", volume)
    source = NiftiSource(path=str(tmp_path), percentile=99)
    (record, *_) = source.listing().slices
    assert record.scale == pytest.approx(np.percentile(np.arange(400) + 600, 99))
    np.testing.assert_allclose(next(source.load([record])), files.axial(volume, 0) / record.scale, rtol=1e-6)


def test_a_negative_background_becomes_zero(tmp_path: Path) -> None:
    # Volumes normalised to mean 0 and deviation 1 within the brain, the background a constant below.
    brain = np.random.default_rng(0).standard_normal((16, 16, 4)).clip(-3, 3)
    volume = np.where(np.indices((16, 16, 4))[0] < 8, brain, -3.5)
    files.save(tmp_path / "a.nii.gz", volume, dtype=np.float32)
    source = NiftiSource(path=str(tmp_path))
    found = source.listing()
    values = np.stack(list(source.load(found.slices)))
    assert found.slices[0].offset == -3.5
    assert values.min() == 0
    assert (values[:, :, :8] == 0).all()
    assert 1 < values.max() < 1.3


@pytest.mark.parametrize("stored", [np.uint8, np.int32, np.float64])
def test_scale_factors_of_the_header_are_applied(tmp_path: Path, stored: type) -> None:
    image = nibabel.Nifti1Image(files.anatomy().astype(np.float32) * 0.5 - 100, np.eye(4))
    image.set_data_dtype(stored)
    image.to_filename(tmp_path / "a.nii")
    expected = nibabel.load(tmp_path / "a.nii").get_fdata()
    source = NiftiSource(path=str(tmp_path), modality="ct")
    slices = list(source.load(source.listing().slices))
    np.testing.assert_allclose(slices[2], files.axial(expected, 2), rtol=1e-6)


def test_subjects_are_first_folders_or_file_names(tmp_path: Path) -> None:
    for name in ("sub-02/anat/t1.nii.gz", "sub-01/anat/t1.nii", "sub-01/anat/t2.nii", "lonely.nii.gz"):
        files.save(tmp_path / name, files.anatomy())
    found = NiftiSource(path=str(tmp_path)).listing()
    assert found.subjects() == ["lonely", "sub-01", "sub-02"]
    assert list(found.volumes) == sorted(found.volumes)
    assert NiftiSource(path=str(tmp_path), pattern="*t2*").listing().subjects() == ["sub-01"]
    assert NiftiSource(path=str(tmp_path / "lonely.nii.gz")).listing().subjects() == ["lonely"]
    assert NiftiSource(path=str(tmp_path), exclude_subjects=("sub-01",)).listing().subjects() == ["lonely", "sub-02"]


def test_slices_can_be_chosen_by_foreground(tmp_path: Path) -> None:
    volume = files.anatomy((8, 8, 10))
    volume[:, :, :3] = 0
    files.save(tmp_path / "a.nii", volume)
    found = NiftiSource(path=str(tmp_path), select=Select(min_foreground=0.1, every=2)).listing()
    assert [record.index for record in found.slices] == [4, 6, 8]


def test_slices_can_be_left_out_at_both_ends_of_the_body(tmp_path: Path) -> None:
    volume = files.anatomy((8, 8, 20))
    volume[:, :, :3] = 0
    volume[:, :, 18:] = 0
    files.save(tmp_path / "a.nii", volume)

    def chosen(**options: int) -> list[int]:
        select = Select(**options)  # type: ignore[arg-type]
        return [record.index for record in NiftiSource(path=str(tmp_path), select=select).listing().slices]

    assert chosen() == list(range(20))
    assert chosen(skip_first=4, skip_last=5) == list(range(7, 13))
    # Counted in slices of the volume, however many of them are taken: the body of every third begins at the third.
    assert chosen(skip_first=4, skip_last=5, every=3) == [9]
    assert chosen(skip_last=5, max_slices=2) == [3, 12]
    with pytest.raises(SourceError, match="no slice that was asked for"):
        chosen(skip_first=20)


def test_brats_is_scaled_by_its_range_as_the_paper_does(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    volume = np.zeros((20, 20, 6), np.int16)
    volume[5:15, 5:15, 1:5] = generator.integers(200, 300, (10, 10, 4))
    volume[7, 7, 2] = 30_000
    files.save(tmp_path / "a.nii", volume)
    source = NiftiSource(path=str(tmp_path), scale="range")
    found = source.listing()
    box = volume[5:15, 5:15, 1:5].astype(float)
    clipped = box.clip(box.mean() - 6 * box.std(), box.mean() + 6 * box.std())
    assert clipped.max() < 30_000, "the spike decides nothing"
    assert (found.slices[2].offset, found.slices[2].scale) == pytest.approx((200, clipped.max() - 200))
    values = np.stack(list(source.load(found.slices)))
    expected = (np.stack([files.axial(volume, k) for k in range(6)]) - 200.0) / (clipped.max() - 200)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_voxels_that_are_no_numbers_are_background(tmp_path: Path) -> None:
    volume = files.anatomy().astype(np.float32)
    volume[0, 0, 0] = np.nan
    files.save(tmp_path / "a.nii", volume, dtype=np.float32)
    source = NiftiSource(path=str(tmp_path))
    found = source.listing()
    assert found.volumes["a.nii"]["n_not_finite"] == 1
    assert np.isfinite(next(source.load(found.slices))).all()


def bad_files(folder: Path) -> None:
    good = files.save(folder / "good.nii.gz", files.anatomy()).read_bytes()
    (folder / "cut.nii.gz").write_bytes(good[: len(good) // 2])
    (folder / "plain_cut.nii").write_bytes(gzip.decompress(good)[:-40])
    (folder / "text.nii").write_text("not a volume" * 100)
    (folder / "nothing.nii.gz").write_bytes(b"")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    (folder / "flipped.nii.gz").write_bytes(flipped)
    affine = np.eye(4)
    nibabel.Nifti1Image(np.ones((4, 4, 3, 2), np.int16), affine).to_filename(folder / "series.nii")
    nibabel.Nifti1Image(np.ones((4, 4, 3), np.complex64), affine).to_filename(folder / "complex.nii")
    nibabel.Nifti1Image(np.zeros((4, 4, 3), np.int16), affine).to_filename(folder / "constant.nii")


def test_bad_files_are_named_with_the_reason_and_the_others_are_kept(tmp_path: Path) -> None:
    bad_files(tmp_path)
    found = NiftiSource(path=str(tmp_path)).listing()
    assert {record.file for record in found.slices} == {"good.nii.gz"}
    reasons = {item.file: item.reason for item in found.rejected}
    assert len(reasons) == 8
    for name in ("cut.nii.gz", "plain_cut.nii", "text.nii", "nothing.nii.gz", "flipped.nii.gz"):
        assert "unreadable" in reasons[name]
    assert "three axes" in reasons["series.nii"]
    assert "real numbers" in reasons["complex.nii"]
    assert "empty" in reasons["constant.nii"]


def test_no_volume_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no \.nii or \.nii\.gz"):
        NiftiSource(path=str(tmp_path)).listing()
    with pytest.raises(SourceError, match="does not exist"):
        NiftiSource(path=str(tmp_path / "nowhere")).listing()


def test_consecutive_slices_decode_their_volume_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.nii", "b.nii"):
        files.save(tmp_path / name, files.anatomy())
    source = NiftiSource(path=str(tmp_path))
    found, calls, real = source.listing(), [], nifti.volume_within_limits
    monkeypatch.setattr(nifti, "volume_within_limits", lambda read, path: calls.append(path) or real(read, path))
    assert len(list(source.load(found.slices))) == 10
    assert [path.name for path in calls] == ["a.nii", "b.nii"]
