"""What an image is, by its tags: slices are taken, everything else is left out with what it is instead."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import SourceError
from storage.sources.dicom import DicomSource
from storage.sources.dicom.header import read_header
from tests.storage import dicom_files as files

LOCALIZER, MAP, PROJECTION = "a localizer", "a map that was computed", "a projection or rendering"

OTHERS_CT: list[tuple[str, dict[str, Any]]] = [
    (LOCALIZER, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
    (LOCALIZER, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 TOP"]}),
    (LOCALIZER, {"ImageType": ["ORIGINAL", "PRIMARY", "SCOUT"]}),
    (LOCALIZER, {"SeriesDescription": "Topogram 0.6 T20s"}),
    (LOCALIZER, {"SeriesDescription": "Surview"}),
    ("a map of a material", {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "EFF_ATOMIC_NUM"]}),
    ("a map of a material", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_VALUE_BASED"]}),
    ("RescaleType is Z_EFF", {"RescaleType": "Z_EFF"}),
    ("RescaleType is MGML", {"RescaleType": "MGML"}),
    ("RescaleType is ED", {"RescaleType": "ED"}),
    ("RescaleType is HU_MOD", {"RescaleType": "HU_MOD"}),
    (MAP, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CBF"]}),
    (MAP, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "PERFUSION MAP"]}),
    (PROJECTION, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP"]}),
    (PROJECTION, {"ImageType": ["DERIVED", "SECONDARY", "MIN_IP"]}),
    (PROJECTION, {"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Aorta VRT"}),
    ("a screen save", {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}),
    ("a screen save", {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}),
    ("writing in its pixels", {"BurnedInAnnotation": "YES"}),
    ("a difference", {"ImageType": ["DERIVED", "SECONDARY", "SUBTRACTION"]}),
]

OTHERS_MR: list[tuple[str, dict[str, Any]]] = [
    ("a phase image", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
    ("a phase image", {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}),
    ("a phase image", {"ComplexImageComponent": "PHASE"}),
    ("the real part", {"ImageType": ["ORIGINAL", "PRIMARY", "R_IR", "R", "IR"]}),
    ("the imaginary part", {"ImageType": ["ORIGINAL", "PRIMARY", "I", "ND"]}),
    ("the imaginary part", {"ImageType": ["ORIGINAL", "PRIMARY", "I_FFE"]}),
    ("RescaleType is milliradials", {"RescaleType": "milliradials"}),
    (MAP, {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}),
    (MAP, {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "FA"]}),
    (MAP, {"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RELCBV"]}),
    (MAP, {"ImageType": ["DERIVED", "PRIMARY", "M", "T2_STAR MAP"]}),
    (MAP, {"ImageType": ["DERIVED", "SECONDARY", "OTHER"], "SeriesDescription": "ADC (10^-6 mm2/s)"}),
    (PROJECTION, {"ImageType": ["DERIVED", "PRIMARY", "MPR", "CSA MIP"]}),
    (PROJECTION, {"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE", "VASCULAR"]}),
    ("a mosaic", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}),
    (LOCALIZER, {"SeriesDescription": "AAHead_Scout"}),
    (LOCALIZER, {"SeriesDescription": "3-plane localiser"}),
]

SLICES_CT: list[dict[str, Any]] = [
    {"ImageType": None},
    {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]},
    {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]},
    {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]},
    {"RescaleType": "Houndsfield Unit"},
    {"RescaleType": "US"},
    {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"], "SeriesDescription": "Low dose screening, mask, late phase"},
]

SLICES_MR: list[dict[str, Any]] = [
    {"ImageType": ["ORIGINAL", "PRIMARY", "OTHER"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "M_SE", "M", "SE"]},
    {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "IN_PHASE"]},
    {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "OPPOSED PHASE"]},
    {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "DIS2D"]},
    {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "COMP_AD"]},
    {"ComplexImageComponent": "MAGNITUDE"},
    {"RescaleType": "normalized"},
    {"SeriesDescription": "t1 fa 15 arterial phase"},
]


def read(folder: Path, modality: Any, tags: dict[str, Any]) -> None:
    usual = files.MR if modality == "mri" else {}
    path = files.save(folder / "x.dcm", files.dataset(files.body(), **{**usual, **tags}))
    read_header(path, "x.dcm", modality)


@pytest.mark.parametrize(
    ("modality", "reason", "tags"), [("ct", *case) for case in OTHERS_CT] + [("mri", *case) for case in OTHERS_MR]
)
def test_other_kinds_of_images_are_called_by_their_name(
    tmp_path: Path, modality: str, reason: str, tags: dict[str, Any]
) -> None:
    with pytest.raises(SourceError, match=reason):
        read(tmp_path, modality, tags)


@pytest.mark.parametrize(
    ("modality", "tags"), [("ct", tags) for tags in SLICES_CT] + [("mri", tags) for tags in SLICES_MR]
)
def test_slices_are_taken(tmp_path: Path, modality: str, tags: dict[str, Any]) -> None:
    read(tmp_path, modality, tags)


def test_phases_of_ge_are_told_by_ges_own_tag(tmp_path: Path) -> None:
    for number, part in enumerate((0, 1, 2, 3)):
        ds = files.dataset(files.body(number), number=number, **{**files.MR, "ImageType": ["ORIGINAL", "PRIMARY"]})
        ds.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", part)
        files.save(tmp_path / f"{part}.dcm", ds)
    found = DicomSource(path=str(tmp_path), modality="mri").listing()
    assert [record.file for record in found.slices] == ["0.dcm"]
    reasons = {item.file: item.reason for item in found.rejected}
    assert "phase" in reasons["1.dcm"]
    assert "real" in reasons["2.dcm"]
    assert "imaginary" in reasons["3.dcm"]


def test_phase_images_do_not_change_the_scale_of_the_magnitudes_beside_them(tmp_path: Path) -> None:
    for number in range(4):
        place = {"ImagePositionPatient": [0, 0, 5.0 * number]}
        magnitude = files.dataset(files.body(number), number=2 * number, **{**files.MR, **place})
        phase = np.random.default_rng(number).integers(0, 4096, (24, 20)).astype(np.uint16)
        kind = {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}
        files.save(tmp_path / f"m{number}.dcm", magnitude)
        files.save(
            tmp_path / f"p{number}.dcm", files.dataset(phase, number=2 * number + 1, **{**files.MR, **place, **kind})
        )
    found = DicomSource(path=str(tmp_path), modality="mri").listing()
    assert [record.file for record in found.slices] == ["m0.dcm", "m1.dcm", "m2.dcm", "m3.dcm"]
    assert {record.scale for record in found.slices} == {900}
    assert len(found.rejected) == 4


def test_a_single_coronal_ct_image_is_taken_for_a_localizer(tmp_path: Path) -> None:
    files.write_series(tmp_path / "axial", [0, 1, 2])
    files.write_series(tmp_path / "scout", [0], series="s", ImageOrientationPatient=files.CORONAL)
    found = DicomSource(path=str(tmp_path)).listing()
    assert len(found.slices) == 3
    assert [(item.file, "localizer" in item.reason) for item in found.rejected] == [("scout/0000.dcm", True)]
