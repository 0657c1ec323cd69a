"""Labels beside images, and CT that is not in Hounsfield units; each rule has an image that it must not catch."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.content import complex_part_reason, foreign_reason, not_hounsfield_reason
from storage.sources.nifti import NiftiSource
from storage.sources.source import mri_offset_and_scale

RNG = np.random.default_rng(0)
ROW, COLUMN = (np.indices((4, 48, 48))[i] - 24 for i in (1, 2))
BODY, ORGAN = (ROW / 20) ** 2 + (COLUMN / 15) ** 2 < 1, (ROW / 6) ** 2 + (COLUMN / 5) ** 2 < 1
NOISE = RNG.standard_normal(BODY.shape)
MR = np.where(BODY, np.where(ORGAN, 900, 300), 0) * (1 + 0.1 * NOISE)
HU = np.where(BODY, np.where(ORGAN, 250, 40), -1000) + 15 * NOISE
LABELS = np.where(BODY, np.where(ORGAN, 4, 2), 0).astype(np.float32)
SOFT = np.clip(1.1 - ((ROW / 20) ** 2 + (COLUMN / 15) ** 2) ** 2, 0, 1) * BODY

FOREIGN = {
    "labels": ("case.nii.gz", LABELS),
    "named labels": ("sub-1/tumorSeg.nii.gz", LABELS * 300),
    "a mask": ("brain.nii.gz", BODY * 255.0),
    "a small mask in a large volume": ("x.nii", np.pad(np.ones((1, 2, 2)), ((0, 0), (300, 300), (500, 500)))),
    "labels that were interpolated": ("x_dseg.nii.gz", (LABELS + np.roll(LABELS, 1, 2)) / 3),
    "a map of probabilities": ("sub-1_label-GM_probseg.nii.gz", SOFT),
    "labels in a folder": ("labelsTr/case_001.nii.gz", LABELS),
}
IMAGES = {
    "noise": ("case.nii.gz", np.rint(MR)),
    "without noise": ("case.nii.gz", np.where(BODY, np.where(ORGAN, 900.0, 300.0), 0.0)),
    "a head called brainmask": ("brainmask.nii.gz", np.rint(MR.clip(0) / 5)),
    "eight bits": ("case.nii.gz", np.rint(MR.clip(0, 1275) / 5)),
    "from 0 to 1 in a folder called gt": ("gt/case.nii.gz", (MR - MR.min()) / np.ptp(MR)),
    "normalised to mean 0": ("seg/case.nii.gz", np.where(BODY, NOISE, -3.5)),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_labels_masks_and_maps_are_told_from_images(case: str) -> None:
    file, values = FOREIGN[case]
    reason = foreign_reason(file, "none", values.astype(np.float32))
    assert reason is not None
    assert "takes_labels" in reason


@pytest.mark.parametrize("case", IMAGES)
def test_images_are_no_labels(case: str) -> None:
    file, values = IMAGES[case]
    assert foreign_reason(file, "none", values.astype(np.float32)) is None


def test_phases_and_parts_of_complex_images_are_told_from_magnitudes() -> None:
    phase, real = np.angle(MR + 20 * NOISE + 20j * np.roll(NOISE, 7)), 900 * NOISE
    for file, values in (("sub-1_part-phase_T2starw.nii.gz", phase), ("x/scan_ph.nii", phase), ("s_real.nii", real)):
        reason = complex_part_reason(file, values.astype(np.float32))
        assert reason is not None
        assert "takes_labels" in reason
    for file, values in (("arterial_phase.nii.gz", MR), ("phase/t1.nii.gz", real), ("sub-1_part-mag_T2w.nii", MR)):
        assert complex_part_reason(file, values.astype(np.float32)) is None


HOUNSFIELD = {
    "a body in air": HU,
    "without noise": np.rint(HU - 15 * NOISE),
    "padding": np.where(np.abs(COLUMN) > 20, -3024, HU),
    "soft tissue cut out": HU[:, 20:28, 18:22] - 200,
    "water cut out": 5 + 10 * NOISE,
    "brain cut out": 35 + 5 * NOISE,
    "contrast agent cut out": 150 + 20 * NOISE,
    "bone and air cut out": np.where(ROW < -10, -900, np.where(COLUMN < 10, 400, 1500)),
}
NOT_HOUNSFIELD = {
    "shifted by 1024": HU + 1024,
    "shifted and clipped": (HU + 1024).clip(0, 4095),
    "shifted, with padding": np.where(np.abs(COLUMN) > 20, -2000, HU + 1024),
    "shifted, cut out": HU[:, 20:28, 20:28] + 1024,
    "grey values": np.rint((HU + 200).clip(0, 400) / 400 * 255),
    "from 0 to 1": (HU.clip(-1000, 1000) + 1000) / 2000,
    "normalised": (HU - HU.mean()) / HU.std(),
    "attenuation": (HU / 1000 + 1) * 0.19,
    "a window": HU.clip(-160, 240),
    "ten times": HU * 10,
    "stored inverted": 3071 - HU - 1024,
    "the offset twice": HU - 1024,
    "no tissue": -1000 + 10 * NOISE,
    "inverted": -HU,
}


@pytest.mark.parametrize("case", HOUNSFIELD)
def test_hounsfield_units_are_taken_with_and_without_air(case: str) -> None:
    assert not_hounsfield_reason(HOUNSFIELD[case].astype(np.float32)) is None


@pytest.mark.parametrize("case", NOT_HOUNSFIELD)
def test_other_values_are_refused_with_what_was_found(case: str) -> None:
    reason = not_hounsfield_reason(NOT_HOUNSFIELD[case].astype(np.float32))
    assert reason is not None
    assert "not in Hounsfield units: " in reason


def save(path: Path, values: np.ndarray, *, intent: str = "none") -> None:
    image = nibabel.Nifti1Image(values.T.astype(np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_intent(intent)
    path.parent.mkdir(exist_ok=True)
    image.to_filename(path)


def test_what_is_no_image_is_listed_and_taken_on_request(tmp_path: Path) -> None:
    save(tmp_path / "case/t1.nii.gz", MR)
    save(tmp_path / "case/case_seg.nii.gz", LABELS)
    save(tmp_path / "case/zstat.nii.gz", MR, intent="z score")
    found = NiftiSource(path=str(tmp_path)).listing()
    assert list(found.volumes) == ["case/t1.nii.gz"]
    assert {item.file: "intent_code" in item.reason for item in found.rejected} == {
        "case/case_seg.nii.gz": False,
        "case/zstat.nii.gz": True,
    }
    assert len(NiftiSource(path=str(tmp_path), takes_labels=True).listing().volumes) == 3


def test_ct_is_taken_after_its_offset_or_as_it_is(tmp_path: Path) -> None:
    save(tmp_path / "ct.nii", HU + 1024)
    source = NiftiSource(path=str(tmp_path), modality="ct")
    with pytest.raises(SourceError, match=r"HU \+ 1024.*offset_hu=-1024"):
        source.listing()
    shifted = source.model_copy(update={"offset_hu": -1024.0})
    values = np.stack(list(shifted.load(shifted.listing().slices)))
    np.testing.assert_allclose(values, HU.astype(np.float32)[:, ::-1, ::-1], atol=1e-3)
    assert len(source.model_copy(update={"takes_any_values": True}).listing().slices) == 4


FEW = RNG.choice(MR.size, 15, replace=False)


def changed(value: float, places: np.ndarray = FEW) -> np.ndarray:
    volume = MR.copy()
    volume.flat[places] = value
    return volume


DISTURBED = {
    "padding in the corners": np.where((ROW**2 + COLUMN**2) > 26**2, -32768, MR),
    "one padded voxel": changed(-32768, FEW[:1]),
    "spikes": changed(32767),
    "higher spikes": changed(1e7),
    "more spikes": changed(32767, RNG.choice(MR.size, 60, replace=False)),
    "negative voxels": changed(-80),
    "ringing about 0": MR + 4 * RNG.standard_normal(MR.shape),
}


@pytest.mark.parametrize("case", DISTURBED)
def test_a_few_voxels_decide_neither_mris_offset_nor_its_scale(case: str) -> None:
    _, scale = mri_offset_and_scale(MR.astype(np.float32), 99.5)
    offset, other = mri_offset_and_scale(DISTURBED[case].astype(np.float32), 99.5)
    assert offset == 0
    assert other == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize("background", [-3.5, -4.0])
def test_a_negative_background_is_the_offset_whatever_single_voxels_are(background: float) -> None:
    volume = np.where(BODY, NOISE.clip(-3, 3), background).astype(np.float32)
    expected = mri_offset_and_scale(volume, 99.5)
    assert expected[0] == np.float32(background)
    volume[0, 0, 0] = -500
    assert mri_offset_and_scale(volume, 99.5) == pytest.approx(expected, rel=1e-6)
