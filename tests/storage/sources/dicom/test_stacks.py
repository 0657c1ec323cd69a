"""What is one volume: by orientation, stack and contrast, with tolerances; and which volumes are chosen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import SourceError
from storage.listing import Listing
from storage.sources.dicom import DicomSource
from storage.sources.source import Select
from tests.storage import dicom_files as files


def listing(folder: Path, **options: Any) -> Listing:
    return DicomSource(path=str(folder), **options).listing()


def write(
    folder: Path, number: int, place: int, *, part: float = 1, series: str = "a", mr: bool = True, **tags: Any
) -> None:
    """Slice ``number`` of a series at the place-th position, with ``part`` of the body's signal."""
    stored = (files.body(place) * part).astype(np.uint16) if mr else files.stored_slice(place)
    at = {"ImagePositionPatient": [-10, -20, 5.0 * place]}
    usual = files.MR if mr else {}
    ds = files.dataset(stored, series=series, number=number, **{**usual, **at, **tags})
    files.save(folder / f"{series}{number:03d}.dcm", ds)


def volumes(found: Listing) -> list[list[float]]:
    """The positions of each volume's slices."""
    names = list(dict.fromkeys(record.volume_id for record in found.slices))
    return [[record.position_mm for record in found.slices if record.volume_id == name] for name in names]


CONTRASTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "echo numbers": ({"EchoNumbers": 1}, {"EchoNumbers": 2}),
    "echo times": ({"EchoTime": 20}, {"EchoTime": 40}),
    "inversion times": ({"InversionTime": 100}, {"InversionTime": 1000}),
    "b-values": ({"DiffusionBValue": 0}, {"DiffusionBValue": 1000}),
    "dynamics": ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}),
    "acquisitions": ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}),
    "stacks": ({"StackID": "1"}, {"StackID": "2"}),
    "water and fat": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "DIXON", "WATER"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "DIXON", "FAT"]},
    ),
    "trigger times": ({"TriggerTime": 0}, {"TriggerTime": 40}),
}


@pytest.mark.parametrize("name", CONTRASTS)
def test_each_contrast_is_a_volume_with_a_scale_of_its_own(tmp_path: Path, name: str) -> None:
    for place in range(4):
        for which, tags in enumerate(CONTRASTS[name]):
            write(tmp_path, 2 * place + which, place, part=1 - 0.6 * which, **tags)
    found = listing(tmp_path, modality="mri")
    assert volumes(found) == [[0, 5, 10, 15], [0, 5, 10, 15]]
    assert sorted({record.scale for record in found.slices}) == [360, 900]
    assert {geometry["slice_spacing_mm"] for geometry in found.volumes.values()} == {5}
    assert list(found.volumes) == [f"{files.uid('a')}#1", f"{files.uid('a')}#2"]
    assert found.rejected == ()


def test_kernels_of_one_ct_series_are_two_volumes(tmp_path: Path) -> None:
    for place in range(3):
        write(tmp_path, 2 * place, place, mr=False, ConvolutionKernel="B30f")
        write(tmp_path, 2 * place + 1, place, mr=False, ConvolutionKernel="B70f")
    assert volumes(listing(tmp_path)) == [[0, 5, 10], [0, 5, 10]]


def test_rotations_of_one_ct_volume_are_one(tmp_path: Path) -> None:
    # Step and shoot: each position has an acquisition of its own.
    for place in range(5):
        write(tmp_path, place, place, mr=False, AcquisitionNumber=place + 1, KVP=120)
    assert volumes(listing(tmp_path)) == [[0, 5, 10, 15, 20]]


def test_an_echo_time_that_is_rounded_or_missing_is_no_other_contrast(tmp_path: Path) -> None:
    for place, echo_time in enumerate((4.604, 4.605, None, 4.61)):
        write(tmp_path, place, place, EchoTime=echo_time)
    assert volumes(listing(tmp_path, modality="mri")) == [[0, 5, 10, 15]]


@pytest.mark.parametrize("jitter", [2e-6, 1e-4])
@pytest.mark.parametrize("cosine", [0.9995, 0.99995, 0.7071])
def test_directions_that_jitter_are_the_same(tmp_path: Path, jitter: float, cosine: float) -> None:
    for place in range(6):
        c = min(cosine + (jitter if place % 2 else -jitter) / 2, 1.0)
        s = float(np.sqrt(1 - c * c))
        direction = [f"{x:.9f}" for x in (c, s, 0, -s, c, 0)]
        write(tmp_path, place, place, mr=False, ImageOrientationPatient=direction)
    found = listing(tmp_path)
    assert found.rejected == ()
    np.testing.assert_allclose(volumes(found), [[0, 5, 10, 15, 20, 25]], atol=1e-6)


def test_positions_that_jitter_are_the_same(tmp_path: Path) -> None:
    for place in range(3):
        for echo in (1, 2):
            corner = [-10, -20, 5.0 * place + 1e-4 * echo]
            write(tmp_path, 2 * place + echo, place, AcquisitionNumber=echo, ImagePositionPatient=corner)
    assert [len(positions) for positions in volumes(listing(tmp_path, modality="mri"))] == [3, 3]


def test_three_planes_in_one_series_are_three_volumes_and_it_is_said(tmp_path: Path) -> None:
    planes = {"axial": files.AXIAL, "coronal": files.CORONAL, "sagittal": files.SAGITTAL}
    for which, direction in enumerate(planes.values()):
        normal = np.cross(direction[:3], direction[3:])
        for place in range(3):
            corner = list(5.0 * place * normal)
            tags = {"ImageOrientationPatient": direction, "ImagePositionPatient": corner}
            write(tmp_path, 3 * which + place, place, **tags)
    found = listing(tmp_path, modality="mri")
    assert volumes(found) == [[0, 5, 10]] * 3
    assert {geometry["plane"] for geometry in found.volumes.values()} == set(planes)
    for geometry in found.volumes.values():
        assert "several planes (axial, coronal, sagittal)" in geometry["notes"][0]  # type: ignore[index]


def test_a_head_ct_whose_gantry_is_tilted_halfway_is_two_volumes(tmp_path: Path) -> None:
    c, s = np.cos(0.3), np.sin(0.3)
    for place in range(6):
        direction = files.AXIAL if place < 3 else [1, 0, 0, 0, c, s]
        write(tmp_path, place, place, mr=False, ImageOrientationPatient=direction)
    found = listing(tmp_path)
    assert [len(positions) for positions in volumes(found)] == [3, 3]
    assert {geometry["plane"] for geometry in found.volumes.values()} == {"axial"}


def test_the_gantry_tilt_of_a_volume_splits_nothing(tmp_path: Path) -> None:
    for place in range(4):
        write(tmp_path, place, place, mr=False, ImagePositionPatient=[-10, -20 + 1.3 * place, 5.0 * place])
    assert volumes(listing(tmp_path)) == [[0, 5, 10, 15]]


@pytest.mark.parametrize("tags", [{"ImagePositionPatient": [0, 0, 0]}, {"ImagePositionPatient": None}])
def test_equal_or_missing_positions_make_one_volume_in_the_order_of_the_instances(
    tmp_path: Path, tags: dict[str, Any]
) -> None:
    for number in (2, 0, 1):
        write(tmp_path, number, number, mr=False, AcquisitionNumber=1, **tags)
    found, is_equal = listing(tmp_path), tags["ImagePositionPatient"] is not None
    assert [record.file for record in found.slices] == ["a000.dcm", "a001.dcm", "a002.dcm"]
    (geometry,) = found.volumes.values()
    assert geometry.get("notes") == (["slices that lie where others of their volume do: 2"] if is_equal else None)


def test_two_stacks_side_by_side_are_two_volumes(tmp_path: Path) -> None:
    for place in range(3):
        for which, x in enumerate((-100.2, 100.4)):
            write(tmp_path, 2 * place + which, place, ImagePositionPatient=[x, 0, 5.0 * place])
    assert volumes(listing(tmp_path, modality="mri")) == [[0, 5, 10], [0, 5, 10]]


def three_series(folder: Path) -> None:
    for series, text, direction in (
        ("t1", "AX T1 fl2d", files.AXIAL),
        ("t2", "SAG T2 tse", files.SAGITTAL),
        ("obl", "T1 oblique", [0.7071, 0.7071, 0, 0, 0, -1]),
    ):
        normal = np.cross(direction[:3], direction[3:])
        for place in range(2):
            tags = {"ImageOrientationPatient": direction, "ImagePositionPatient": list(5.0 * place * normal)}
            write(folder, place, place, series=series, SeriesDescription=text, **tags)


@pytest.mark.parametrize(
    ("choice", "files_taken"),
    [
        ({"series": "*t1*"}, ["obl", "t1"]),
        ({"series": "SAG T2 TSE"}, ["t2"]),
        ({"series_uids": (files.uid("t1"), files.uid("t2"))}, ["t1", "t2"]),
        ({"planes": ("axial",)}, ["t1"]),
        ({"planes": ("sagittal", "oblique")}, ["obl", "t2"]),
        ({"series": "*t1*", "planes": ("axial",)}, ["t1"]),
    ],
)
def test_series_are_chosen_and_the_others_are_counted(
    tmp_path: Path, choice: dict[str, Any], files_taken: list[str]
) -> None:
    three_series(tmp_path)
    found = listing(tmp_path, modality="mri", select=Select(), **choice)
    assert sorted({record.file[:-7] for record in found.slices}) == files_taken
    assert len(found.slices) == 2 * len(files_taken)
    assert len(found.rejected) == 3 - len(files_taken)
    for item in found.rejected:
        assert "not chosen with its volume of 2 slices, " in item.reason


def test_if_no_series_fits_those_that_are_there_are_named(tmp_path: Path) -> None:
    three_series(tmp_path)
    with pytest.raises(SourceError, match=r"no series fits.*'SAG T2 tse' \(sagittal, 2 slices, .*'AX T1 fl2d' \(axial"):
        listing(tmp_path, modality="mri", series="*flair*")
    with pytest.raises(SourceError, match="series_uids"):
        listing(tmp_path, modality="mri", series_uids=("1.2.3",))


def test_a_reformatted_series_is_taken_in_other_planes_only_when_asked_for(tmp_path: Path) -> None:
    kind = {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]}
    for place in range(2):
        write(tmp_path, place, place, mr=False, series="ax", **kind)
        corner = {"ImagePositionPatient": [0, 5.0 * place, 0], "ImageOrientationPatient": files.CORONAL}
        write(tmp_path, place, place, mr=False, series="cor", **kind, **corner)
    found = listing(tmp_path)
    assert {record.file[:-7] for record in found.slices} == {"ax"}
    assert "of 2 slices, which were reformatted" in found.rejected[0].reason
    assert "planes=coronal takes them" in found.rejected[0].reason
    found = listing(tmp_path, planes=("coronal",))
    assert {record.file[:-7] for record in found.slices} == {"cor"}


def test_directions_that_are_rounded_to_few_digits_keep_their_distances(tmp_path: Path) -> None:
    for place in range(3):
        write(tmp_path, place, place, mr=False, ImageOrientationPatient=[0.998, 0, 0, 0, 0.999, 0])
    assert volumes(listing(tmp_path)) == [[0, 5, 10]]


@pytest.mark.parametrize("direction", [[0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [2, 0, 0, 0, 2, 0]])
def test_impossible_directions_are_not_believed(tmp_path: Path, direction: list[float]) -> None:
    for place in range(3):
        write(tmp_path, place, place, mr=False, ImageOrientationPatient=direction, SliceLocation=3.0 * place)
    found = listing(tmp_path)
    assert volumes(found) == [[0, 3, 6]]
    assert next(iter(found.volumes.values()))["plane"] is None
