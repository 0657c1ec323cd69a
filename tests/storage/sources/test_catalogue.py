"""What was found in files is found again without reading them, as long as their stamps say that they are the same."""

import gzip
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.listing import Listing
from storage.sources import (
    AnySource,
    DicomSource,
    NiftiSource,
    OpenKBPSource,
    PhantomSource,
    SeveralSources,
    collect,
    limits,
)
from storage.sources.catalogue import Catalogue, digest_of_stamps
from storage.sources.files import Stamp
from tests.storage import dicom_files, nifti_files

READERS = ("dicom.source.within_limits", "nifti.volume_within_limits", "openkbp.volume_within_limits")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of files, header or pixels, in the reading process."""
    read: list[str] = []

    def counting(reader: Any, path: Path, *rest: Any, **limit: Any) -> Any:
        read.append(path.name)
        return limits.within_limits(reader, path, *rest, **limit)

    for name in READERS:
        monkeypatch.setattr(f"storage.sources.{name}", counting)
    monkeypatch.setattr("storage.sources.catalogue.SETTLED_NS", 0)
    return read


def code(name: str) -> str:
    return hashlib.sha256(f"salt {name}".encode()).hexdigest()[:12]


def scanned(source: AnySource, folder: Path) -> Listing:
    return collect(source.scan(Catalogue(str(folder / "catalogue"), code)))


def openkbp_patient(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "ct.csv").write_text("," + "data\n" + "".join(f"{7 * i},{1000 + i % 90}\n" for i in range(2000)))
    (folder / "voxel_dimensions.csv").write_text("3.9\n3.9\n2.5\n")


def sources(folder: Path) -> dict[str, AnySource]:
    """Of each kind one with files."""
    for series in ("a", "b"):
        dicom_files.write_series(folder / "dicom" / series, [0, 1, 2], series=series, PatientID=f"P{series}")
    for name in ("ant", "bee"):
        nifti_files.save(folder / "nifti" / f"{name}.nii.gz", nifti_files.anatomy())
        openkbp_patient(folder / "kbp" / name)
    several = SeveralSources(
        sources=(DicomSource(path=str(folder / "dicom")), NiftiSource(path=str(folder / "nifti"), takes_labels=True))
    )
    return {
        "dicom": several.sources[0],
        "nifti": several.sources[1],
        "openkbp": OpenKBPSource(path=str(folder / "kbp")),
        "several": several,
    }


@pytest.mark.parametrize("kind", ["dicom", "nifti", "openkbp", "several"])
def test_the_second_scan_reads_nothing_and_finds_the_same(tmp_path: Path, counted: list[str], kind: str) -> None:
    source = sources(tmp_path)[kind]
    first = scanned(source, tmp_path)
    assert first.model_dump(exclude={"rejected"}) == collect(source.scan()).model_dump(exclude={"rejected"})
    counted.clear()
    assert scanned(source, tmp_path) == first
    assert counted == []


def test_one_more_file_of_a_series_costs_that_series(tmp_path: Path, counted: list[str]) -> None:
    source = sources(tmp_path)["dicom"]
    scanned(source, tmp_path)
    dicom_files.write_series(tmp_path / "dicom" / "new", [3], series="b", PatientID="Pb")
    counted.clear()
    assert len(scanned(source, tmp_path).slices) == 7
    # Its header, and the pixels of the four slices of its volume.
    assert len(counted) == 5


def test_a_file_that_changed_is_read_again(tmp_path: Path, counted: list[str]) -> None:
    source = sources(tmp_path)["nifti"]
    first = scanned(source, tmp_path)
    path = tmp_path / "nifti" / "ant.nii.gz"
    before = path.stat()
    nifti_files.save(path, 2 * nifti_files.anatomy() + 7)
    # As a copy that keeps times does: only the time of the last change of any kind tells.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    counted.clear()
    assert scanned(source, tmp_path) != first
    assert counted == ["ant.nii.gz"]


def test_what_may_still_change_is_not_remembered(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sources.catalogue.SETTLED_NS", 10**12)
    source = sources(tmp_path)["nifti"]
    scanned(source, tmp_path)
    counted.clear()
    scanned(source, tmp_path)
    assert len(counted) == 2
    assert digest_of_stamps(source.stamps()) == ""


def test_a_scan_that_is_ended_keeps_what_it_found(tmp_path: Path, counted: list[str]) -> None:
    source = sources(tmp_path)["nifti"]
    items = source.scan(Catalogue(str(tmp_path / "catalogue"), code))
    next(items)
    items.close()
    counted.clear()
    scanned(source, tmp_path)
    assert counted == ["bee.nii.gz"]


DAMAGED = {
    "empty": b"",
    "no gzip": b"no gzip",
    "a list": gzip.compress(b"[]"),
    "little": gzip.compress(b'{"version": 1}'),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_catalogue_is_made_again(tmp_path: Path, counted: list[str], content: bytes) -> None:
    source = sources(tmp_path)["nifti"]
    first = scanned(source, tmp_path)
    (file,) = (tmp_path / "catalogue").iterdir()
    file.write_bytes(content)
    assert scanned(source, tmp_path) == first
    counted.clear()
    scanned(source, tmp_path)
    assert counted == []


def test_phantoms_are_not_drawn_again_to_list_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = PhantomSource._slice
    monkeypatch.setattr(PhantomSource, "_slice", lambda *of: drawn.append(of[-1]) or draw(*of))
    source = PhantomSource(n_volumes=2, n_slices=3, size=16)
    first = scanned(source, tmp_path)
    assert drawn == [0, 1, 2] * 2
    assert scanned(source, tmp_path) == first
    assert len(drawn) == 6
    assert digest_of_stamps(source.stamps()) != digest_of_stamps(PhantomSource(n_volumes=3).stamps())


def test_a_file_that_is_gone_is_forgotten(tmp_path: Path, counted: list[str]) -> None:
    source = sources(tmp_path)["nifti"]
    scanned(source, tmp_path)
    (tmp_path / "nifti" / "ant.nii.gz").unlink()
    scanned(source, tmp_path)
    (file,) = (tmp_path / "catalogue").iterdir()
    assert b"ant" not in gzip.decompress(file.read_bytes())


def test_names_of_patients_are_not_in_it(tmp_path: Path, counted: list[str]) -> None:
    dicom_files.write_series(tmp_path / "dicom", [0, 1], PatientName="Muster^Erika", PatientBirthDate="19640812")
    scanned(DicomSource(path=str(tmp_path / "dicom")), tmp_path)
    (file,) = (tmp_path / "catalogue").iterdir()
    text = gzip.decompress(file.read_bytes()).decode().casefold()
    assert "p1" in text
    assert [word for word in ("muster", "erika", "19640812") if word in text] == []
    assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0


def test_people_are_told_apart_as_without_it(tmp_path: Path, counted: list[str]) -> None:
    """Files of one study with and without a PatientID: remembered ones are compared with new ones."""
    folder, study = tmp_path / "dicom", dicom_files.uid("one study")
    same = {"StudyInstanceUID": study, "PatientName": "Muster^Erika", "PatientBirthDate": "19640812"}
    dicom_files.write_series(folder / "a", [0, 1], series="a", PatientID="P7", **same)
    source = DicomSource(path=str(folder))
    scanned(source, tmp_path)
    dicom_files.write_series(folder / "b", [0, 1], series="b", PatientID="", **same)
    assert {one.subject_id for one in scanned(source, tmp_path).slices} == {"P7"}
    other = same | {"PatientName": "Beispiel^Otto", "PatientBirthDate": "19500101"}
    dicom_files.write_series(folder / "c", [0, 1], series="c", PatientID="P8", **other)
    assert {one.subject_id for one in scanned(source, tmp_path).slices} == {"P7", "P8"}


def test_stamps_tell_what_came_went_or_changed() -> None:
    old = {"a": Stamp(1, 2, 3), "b": Stamp(4, 5, 6)}
    digests = {
        digest_of_stamps(stamps)
        for stamps in (old, {"a": old["a"]}, {**old, "b": Stamp(4, 5, 7)}, {**old, "c": Stamp(1, 1, 1)})
    }
    assert len(digests) == 4
    assert digest_of_stamps(dict(reversed(old.items()))) == digest_of_stamps(old)
    assert digest_of_stamps({}) == ""
    assert digest_of_stamps({**old, "c": Stamp()}) == ""


def test_values_are_of_the_same_bits_after_a_memory(tmp_path: Path, counted: list[str]) -> None:
    source = sources(tmp_path)["dicom"]
    scanned(source, tmp_path)
    remembered = scanned(source, tmp_path)
    for mine, theirs in zip(source.load(remembered.slices), source.load(collect(source.scan()).slices), strict=True):
        np.testing.assert_array_equal(mine, theirs)
