"""Sources in other places than this machine: the same slices, from copies that are gone afterwards."""

import os
from pathlib import Path

import pytest

from storage.errors import SourceError
from storage.sources import DicomSource, NiftiSource, OpenKBPSource
from storage.sources.copies import fetched_once, opened
from storage.sources.source import Source
from storage.uri import delete, join, read_range, write_bytes
from tests.storage.dicom_files import write_series
from tests.storage.nifti_files import anatomy, save


def moved(folder: Path) -> str:
    """The files below a folder, in another place."""
    uri = f"memory://{folder.parent.name}/{folder.name}"
    for file in (path for path in folder.rglob("*") if path.is_file()):
        write_bytes(join(uri, file.relative_to(folder).as_posix()), file.read_bytes())
    return uri


def dicom(folder: Path) -> Source:
    for i in range(2):
        write_series(folder / f"p{i}", [0, 1, 2], series=f"s{i}", PatientID=f"P{i}")
    (folder / "p0" / "cut.dcm").write_bytes((folder / "p0" / "0000.dcm").read_bytes()[:-9])
    (folder / "notes.txt").write_text("nothing")
    return DicomSource(path=str(folder), takes_any_values=True)


def nifti(folder: Path) -> Source:
    save(folder / "a" / "t1.nii.gz", anatomy())
    save(folder / "t1.nii", anatomy())
    (folder / "cut.nii.gz").write_bytes((folder / "a" / "t1.nii.gz").read_bytes()[:-9])
    return NiftiSource(path=str(folder))


def openkbp(folder: Path) -> Source:
    for name in ("pt_1", "pt_2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "ct.csv").write_text(",data\n0,1000\n5,1200\n")
        (folder / name / "voxel_dimensions.csv").write_text("3\n3\n2\n")
    (folder / "pt_2" / "voxel_dimensions.csv").unlink()
    return OpenKBPSource(path=str(folder), select={"every": 64})


@pytest.mark.parametrize("make", [dicom, nifti, openkbp])
def test_a_source_elsewhere_holds_the_same_slices(make: object, tmp_path: Path) -> None:
    here = make(tmp_path / "source")  # type: ignore[operator]
    there = here.model_copy(update={"path": moved(tmp_path / "source")})
    listing = here.listing()
    assert there.listing().slices == listing.slices
    assert there.listing().volumes == listing.volumes
    assert [one.file for one in there.listing().rejected] == [one.file for one in listing.rejected] != []
    for mine, theirs in zip(here.load(listing.slices), there.load(listing.slices), strict=True):
        assert (mine == theirs).all()


def test_one_file_elsewhere_is_a_source(tmp_path: Path) -> None:
    save(tmp_path / "source" / "t1.nii.gz", anatomy())
    here = NiftiSource(path=str(tmp_path / "source" / "t1.nii.gz"))
    there = NiftiSource(path=join(moved(tmp_path / "source"), "t1.nii.gz"))
    assert there.listing() == here.listing()


def test_a_copy_has_the_ending_of_its_file_and_is_gone_afterwards(tmp_path: Path) -> None:
    write_bytes(f"memory://{tmp_path.name}/a/b.dcm", b"123")
    with opened(f"memory://{tmp_path.name}", "a/b.dcm") as path:
        assert (path.name, path.read_bytes(), path.stat().st_size) == ("b.dcm", b"123", 3)
        # Another process reads it.
        assert os.popen(f"cat {path}").read() == "123"
    assert not path.exists()
    assert not path.parent.exists()


def test_a_large_file_comes_in_pieces_and_no_further_than_its_reader_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.sources.copies.PIECE_BYTES", 4)
    root = f"memory://{tmp_path.name}"
    for n in (0, 3, 4, 8, 11):
        write_bytes(join(root, "x"), bytes(range(n)))
        with opened(root, "x") as path:
            assert path.read_bytes() == bytes(range(n))
        for at_most in (2, 4, 6):
            with opened(root, "x", at_most=at_most) as path:
                assert path.read_bytes() == bytes(range(min(n, at_most)))


def test_what_is_read_twice_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(uri: str, start: int, stop: int) -> bytes:
        asked.append(uri)
        return read_range(uri, start, stop)

    monkeypatch.setattr("storage.sources.copies.read_range", counted)
    source = dicom(tmp_path / "source").model_copy(update={"path": moved(tmp_path / "source")})
    n_slices = len(source.listing().slices)
    assert len(asked) == len(set(asked)) == n_slices + 2
    with fetched_once(), opened(str(source.path), "notes.txt") as path:  # type: ignore[attr-defined]
        assert path.read_text() == "nothing"
    assert len(asked) == n_slices + 3


def test_a_file_that_has_gone_or_leads_out_is_named(tmp_path: Path) -> None:
    root = moved(tmp_path)
    write_bytes(join(root, "a"), b"1")
    delete(join(root, "a"))
    for name, reason in (("a", "a is not there"), ("../a", "segments"), ("x//y", "segments")):
        with pytest.raises(SourceError, match=reason), opened(root, name):
            pass
