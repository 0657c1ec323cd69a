"""Hashes in place of names: what they depend on, who can make them, and what is left of a listing."""

import hmac
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from scoreinv.contract import ImageContract
from storage.datasets import NAMES, DatasetStore
from storage.errors import StoreError
from storage.identities import SALT_VARIABLE, Hasher, hidden, names_in
from storage.listing import Listing, Rejected
from storage.sources import DicomSource, NiftiSource, PhantomSource, SeveralSources, Source
from storage.uri import join, read_bytes, write_bytes
from tests.storage import dicom_files as files
from tests.storage import nifti_files

CT = ImageContract(modality="ct", size=16, pixel_mm=0.5, low=-1000, high=1000)


@pytest.fixture(autouse=True)
def _no_salt_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SALT_VARIABLE, raising=False)


@pytest.fixture(params=["local", "memory"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "workspace") if request.param == "local" else f"memory://{tmp_path.name}/workspace"


def test_a_hash_is_an_hmac_under_the_workspaces_salt(workspace: str) -> None:
    first = Hasher(workspace)("P1")
    salt = read_bytes(join(workspace, ".salt"))
    assert len(salt) == 64
    assert first == hmac.new(salt, b"P1", "sha256").hexdigest()[:20]
    assert Hasher(workspace)("P1") == first != Hasher(workspace)("P2")
    assert Hasher(f"{workspace}-2")("P1") != first


def test_the_salt_is_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Hasher(str(tmp_path))("P1")
    finally:
        os.umask(before)
    salt = tmp_path / ".salt"
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".salt"]
    salt.write_bytes(b"")
    with pytest.raises(StoreError, match=r"\.salt is damaged"):
        Hasher(str(tmp_path))("P1")


def test_two_at_once_on_a_new_workspace_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            hashers = [Hasher(str(tmp_path / str(number))) for _ in range(8)]
            assert len(set(pool.map(lambda hasher: hasher("P1"), hashers))) == 1


def test_workspaces_agree_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SALT_VARIABLE, "0123456789abcdef")
    assert Hasher(str(tmp_path / "a"))("P1") == Hasher("memory://elsewhere")("P1")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv(SALT_VARIABLE, "short")
    with pytest.raises(ValueError, match="SCOREINV_SALT has 5 letters"):
        Hasher(str(tmp_path))("P1")


def scans(folder: Path) -> Listing:
    for patient in ("Anna^Id", "Bert^Id"):
        study = files.uid("study of", patient)
        files.write_series(folder / patient, [0, 1], series=patient, PatientID=patient, StudyInstanceUID=study)
    twice = folder / "Anna^Id" / "0000.dcm"
    (folder / "Clara's copy.dcm").write_bytes(twice.read_bytes())
    (folder / "Dora.dcm").write_bytes(twice.read_bytes()[:-50])
    return DicomSource(path=str(folder)).listing()


def test_nothing_of_a_name_is_left_and_nothing_else_is_lost(tmp_path: Path) -> None:
    found, code = scans(tmp_path / "scans"), Hasher(str(tmp_path))
    shown = DicomSource(path="anywhere").public(found, code)
    text = shown.model_dump_json()
    names = [
        "Anna",
        "Bert",
        "Clara",
        "Dora",
        "0000",
        "0001",
        ".dcm",
        files.uid("Anna^Id"),
        files.uid("study of", "Anna^Id"),
    ]
    assert [name for name in names if name in text] == []
    assert [name for name in names if name not in found.model_dump_json()] == []
    assert shown.subjects() == [code(name) for name in found.subjects()]
    assert len({record.slice_id for record in shown.slices}) == 4
    kept = {"index", "position_mm", "spacing_mm", "shape", "checksum", "scale"}
    for before, after in zip(found.slices, shown.slices, strict=True):
        assert before.model_dump(include=kept) == after.model_dump(include=kept)
    assert {item["units"] for item in shown.volumes.values()} == {"HU"}
    assert [one.reason for one in shown.rejected][0].startswith("the same image")


REASONS = {
    "PixelSpacing is 'Smith^J': the size of a pixel is not known": "PixelSpacing is …",
    "unreadable: damaged (ValueError: Smith)": "unreadable",
    "the same image (SOPInstanceUID) as scans/Smith/1.dcm": "the same image",
    "it is a 1.2.840.113619.4.7.99, this source takes CT": "it is a HASH, this source takes CT",
    "64 x 60 pixels, but most of Smith has 64 x 64": "64 x 60 pixels, but most of … has 64 x 64",
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_keeps_what_names_nobody(reason: str) -> None:
    bad = Rejected(file="Smith/scan.dcm", reason=reason)
    shown = hidden(Listing(slices=(), rejected=(bad,), volumes={}), lambda name: "HASH")
    assert shown.rejected[0] == Rejected(file="HASH", reason=REASONS[reason])


def nifti(folder: Path) -> Source:
    for name in ("Berta.nii.gz", "Anna/t1.nii"):
        nifti_files.save(folder / name, nifti_files.anatomy() - 700, codes="LPS")
    return NiftiSource(path=str(folder), modality="ct", identities="hashed")


def several(folder: Path) -> Source:
    return SeveralSources.model_validate({"sources": [nifti(folder), PhantomSource(n_volumes=1, n_slices=2)]})


@pytest.mark.parametrize("make", [nifti, several])
def test_a_data_set_with_hashes_is_made_and_resumed_as_one_with_names(tmp_path: Path, make: object) -> None:
    source: Source = make(tmp_path / "scans")  # type: ignore[operator]
    found, code = source.listing(), Hasher(str(tmp_path))
    images = []
    for listing in (found, source.public(found, code)):
        uri = str(tmp_path / listing.fingerprint)
        store = DatasetStore.create(uri, listing, contract=CT, recipe={}, shard_size=3, named=found)
        for shard in store.shards.pending():
            # Another process knows the place alone.
            DatasetStore.open(uri, finished=False).ingest(shard, source.load)
        store.finish()
        images.append(store.images(0, len(store)))
        private = [path for path in Path(uri).rglob("*") if path.is_file() and b"Anna" in path.read_bytes()]
        assert [path.name for path in private] == ["slices.json" if listing == found else NAMES]
    assert private[0].stat().st_mode & 0o007 == 0
    np.testing.assert_array_equal(*images)


def test_each_of_several_sources_is_shown_as_it_says(tmp_path: Path) -> None:
    source, code = several(tmp_path / "scans"), Hasher(str(tmp_path))
    shown = source.public(source.listing(), code)
    assert shown.subjects() == [f"0/{code('Anna')}", f"0/{code('Berta')}", "1/phantom-0"]
    everything = source.model_copy(update={"identities": "hashed"})
    assert everything.public(source.listing(), code).subjects()[-1] == f"1/{code('phantom-0')}"


def test_lists_name_people_as_their_source_does(tmp_path: Path) -> None:
    code = Hasher(str(tmp_path))
    assert names_in({"P1"}, ["P1", "P2"], code) == ("P1", "P2")
    assert not code.was_used()
    known = {code("P1"), "P1", code("P2"), f"3/{code('P4')}"}
    # One collection may keep names and another hash them: then both are meant.
    assert names_in(known, ["P1", "P2", code("P2"), "3/P4", "P5"], code) == (
        "P1",
        code("P1"),
        code("P2"),
        f"3/{code('P4')}",
        "P5",
    )


def test_private_files_are_not_for_everybody(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_bytes(str(tmp_path / "a"), b"x", is_private=True)
        write_bytes(str(tmp_path / "b"), b"x")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o660, 0o666]
