"""One person is one subject, two people are two, whatever an export did to the tags."""

from pathlib import Path
from typing import Any

import pytest

from storage.identities import Hasher
from storage.listing import Listing
from storage.sources.dicom import DicomSource
from tests.storage import dicom_files as files

STUDY = files.uid("one study")


def listing(folder: Path, **options: Any) -> Listing:
    return DicomSource(path=str(folder), **options).listing()


def write(folder: Path, name: str, place: int, *, series: str = "a", **tags: Any) -> None:
    ds = files.dataset(files.stored_slice(place), series=series, number=place, **{"StudyInstanceUID": STUDY, **tags})
    ds.SOPInstanceUID = files.uid(name)
    files.save(folder / f"{name}.dcm", ds)


def notes(found: Listing) -> list[str]:
    return [note for geometry in found.volumes.values() for note in geometry.get("notes", ())]  # type: ignore[union-attr]


@pytest.mark.parametrize("blank", ["", None, "  "])
def test_a_file_without_a_patient_id_belongs_to_the_person_of_its_series(tmp_path: Path, blank: str | None) -> None:
    for place in range(4):
        write(tmp_path, str(place), place, PatientID=blank if place == 2 else "P1")
    found = listing(tmp_path)
    assert found.subjects() == ["P1"]
    assert len(found.volumes) == 1
    assert "without a PatientID: 1" in notes(found)[0]
    assert "P1" not in notes(found)[0]


def test_a_series_without_patient_ids_belongs_to_the_person_of_its_study(tmp_path: Path) -> None:
    for place in range(3):
        write(tmp_path, f"a{place}", place, series="a", PatientID="P1")
        write(tmp_path, f"b{place}", place, series="b", PatientID="")
    found = listing(tmp_path)
    assert found.subjects() == ["P1"]
    assert len(found.volumes) == 2


def test_without_any_patient_id_the_study_is_the_subject(tmp_path: Path) -> None:
    for place in range(2):
        write(tmp_path, f"a{place}", place, series="a", PatientID=None)
        write(tmp_path, f"b{place}", place, series="b", PatientID="")
        tags = {"PatientID": "", "StudyInstanceUID": files.uid("another"), "PatientBirthDate": "19600101"}
        write(tmp_path, f"c{place}", place, series="c", **tags)
    found = listing(tmp_path)
    assert sorted(found.subjects()) == sorted([STUDY, files.uid("another")])
    assert "the study stands for the person" in notes(found)[0]


@pytest.mark.parametrize("first", ["", "P1"])
def test_studies_without_patient_ids_are_one_person_by_name_and_birth(tmp_path: Path, first: str) -> None:
    for study, patient in (("x", first), ("y", ""), ("z", "")):
        tags = {"PatientID": patient, "StudyInstanceUID": files.uid(study)}
        write(tmp_path, study, 0, series=study, **tags)
    write(tmp_path, "w", 0, series="w", PatientID="", PatientName="", StudyInstanceUID=files.uid("w"))
    names = {record.file: record.subject_id for record in listing(tmp_path).slices}
    assert names["x.dcm"] == names["y.dcm"] == names["z.dcm"] == first or not first
    assert names["w.dcm"] == files.uid("w")
    assert len(set(names.values())) == 2


@pytest.mark.parametrize("other", ["p1", "P1 second visit", "0001"])
def test_other_patient_ids_in_a_series_are_one_person(tmp_path: Path, other: str) -> None:
    for place in range(5):
        write(tmp_path, str(place), place, PatientID=other if place in (1, 3) else "P1")
    found = listing(tmp_path)
    assert found.subjects() == ["P1"]
    assert len(found.volumes) == 1
    assert "PatientIDs of this person: 2" in notes(found)[0]


def test_another_patient_id_in_another_series_of_the_study_is_the_same_person(tmp_path: Path) -> None:
    for place in range(3):
        write(tmp_path, f"a{place}", place, series="a", PatientID="P1")
        write(tmp_path, f"b{place}", place % 2, series="b", PatientID="P1-2")
        # A later study under the second name only.
        write(tmp_path, f"c{place}", place, series="c", PatientID="P1-2", StudyInstanceUID=files.uid("later"))
    found = listing(tmp_path)
    assert len(found.subjects()) == 1
    for name in ("P1", "P1-2"):
        assert listing(tmp_path, only_subjects=(name,)).subjects() == found.subjects()
        write(tmp_path / "else", "e0", 0, series="e", PatientID="P9", StudyInstanceUID=files.uid("else"))
        assert listing(tmp_path, exclude_subjects=(name,)).subjects() == ["P9"]


@pytest.mark.parametrize("study", [STUDY, files.uid("another")])
def test_two_people_with_one_series_uid_are_two_volumes(tmp_path: Path, study: str) -> None:
    for place in range(4):
        for which, name in enumerate(("P1", "P2")):
            stored = files.body(place) * (1 + 9 * which)
            tags = {"PatientID": name, "StudyInstanceUID": (STUDY, study)[which], **files.MR}
            ds = files.dataset(stored, number=place, **tags)
            files.save(tmp_path / name / f"{place}.dcm", ds)  # Even the SOPInstanceUIDs are equal.
    found = listing(tmp_path, modality="mri")
    assert found.subjects() == ["P1", "P2"]
    assert {(record.subject_id, record.scale) for record in found.slices} == {("P1", 900), ("P2", 9000)}
    assert len({record.slice_id for record in found.slices}) == 8
    assert found.rejected == ()


@pytest.mark.parametrize(
    "tags",
    [{"PatientSex": "M"}, {"PatientBirthDate": "19551231"}, {"PatientName": "Roe^Richard"}],
)
def test_a_study_of_two_people_who_differ_is_two_subjects(tmp_path: Path, tags: dict[str, Any]) -> None:
    for place in range(2):
        write(tmp_path, f"a{place}", place, series="a", PatientID="P1", PatientSex="F")
        write(tmp_path, f"b{place}", place, series="b", **{"PatientID": "P2", "PatientSex": "F", **tags})
    assert listing(tmp_path).subjects() == ["P1", "P2"]


def test_copies_are_named_also_if_they_have_lost_their_patient_id(tmp_path: Path) -> None:
    for place in range(2):
        write(tmp_path, str(place), place)
    ds = files.dataset(files.stored_slice(1), number=1, StudyInstanceUID=STUDY, PatientID="")
    ds.SOPInstanceUID = files.uid("1")
    files.save(tmp_path / "copy.dcm", ds)
    found = listing(tmp_path)
    assert len(found.slices) == 2
    assert "the same image (SOPInstanceUID) as 1.dcm" in found.rejected[0].reason


def test_identities_are_in_no_note_when_subjects_are_hashed(tmp_path: Path) -> None:
    for place in range(3):
        write(tmp_path, str(place), place, PatientID="Secret-1" if place else "Secret-2")
    found = listing(tmp_path)
    shown = DicomSource(path=str(tmp_path)).public(found, Hasher(str(tmp_path)))
    assert notes(shown)
    assert "Secret" not in shown.model_dump_json()
    assert len(shown.subjects()) == 1
