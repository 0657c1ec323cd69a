"""What every source promises; one case for every member of the union."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter

from scoreinv.contract import ImageContract
from storage.datasets import DatasetStore
from storage.errors import SourceError
from storage.listing import checksum_of
from storage.sources import (
    AnySource,
    DicomSource,
    NiftiSource,
    OpenKBPSource,
    PhantomSource,
    Select,
    SeveralSources,
    Source,
    collect,
)
from tests.storage import dicom_files, nifti_files


def dicom(folder: Path) -> Source:
    for patient in ("P2", "P1"):
        dicom_files.write_series(folder / patient, [1, 0, 2], series=patient, PatientID=patient)
    return DicomSource(path=str(folder))


def nifti(folder: Path) -> Source:
    for name in ("b/t1.nii.gz", "a/t1.nii"):
        nifti_files.save(folder / name, nifti_files.anatomy() - 700, codes="LPS")
    return NiftiSource(path=str(folder), modality="ct")


def openkbp(folder: Path) -> Source:
    for name in ("pt_1", "pt_2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "ct.csv").write_text(f",data\n0,1024.0\n{128 * 128 * 64 + 128 * 64},3000.0\n")
        (folder / name / "voxel_dimensions.csv").write_text("4\n4\n2\n")
    return OpenKBPSource(path=str(folder), select=Select(max_slices=3))


def phantom(folder: Path) -> Source:
    return PhantomSource(n_volumes=2, n_slices=3, size=24)


def several(folder: Path) -> Source:
    return SeveralSources.model_validate({"sources": [dicom(folder / "d"), nifti(folder / "n"), phantom(folder)]})


CASES: dict[type[Source], Callable[[Path], Source]] = {
    DicomSource: dicom,
    NiftiSource: nifti,
    OpenKBPSource: openkbp,
    PhantomSource: phantom,
    SeveralSources: several,
}


@pytest.fixture(params=CASES, ids=lambda kind: kind.__name__)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    return CASES[request.param](tmp_path / "data")


def test_every_kind_of_source_has_a_case() -> None:
    assert set(get_args(get_args(AnySource)[0])) == set(CASES)


def test_json_round_trip(source: Source) -> None:
    again = TypeAdapter(AnySource).validate_json(source.model_dump_json())
    assert again == source
    assert again.digest() == source.digest()


def test_two_listings_are_the_same_and_names_are_unique(source: Source) -> None:
    found = source.listing()
    assert found == source.listing() == collect(source.scan())
    assert found.rejected == ()
    assert len({record.slice_id for record in found.slices}) == len(found.slices) >= 6
    assert {record.volume_id for record in found.slices} == set(found.volumes)


def test_slices_of_a_volume_are_neighbours_and_in_order(source: Source) -> None:
    slices = source.listing().slices
    for volume in dict.fromkeys(record.volume_id for record in slices):
        places = [i for i, record in enumerate(slices) if record.volume_id == volume]
        assert places == list(range(places[0], places[-1] + 1))
        positions = [slices[i].position_mm for i in places]
        assert positions == sorted(positions)


def test_load_gives_what_was_listed_in_any_order(source: Source) -> None:
    slices = source.listing().slices
    for records in (slices, slices[::-1], slices[2:5]):
        for record, values in zip(records, source.load(records), strict=True):
            assert values.dtype == np.float32
            assert values.shape == record.shape
            assert checksum_of(values) == record.checksum


def test_subjects_are_left_out_or_chosen(source: Source) -> None:
    everybody = source.listing().subjects()
    rest = source.model_copy(update={"exclude_subjects": (everybody[0],)}).listing()
    only = source.model_copy(update={"only_subjects": (everybody[0],)}).listing()
    assert rest.subjects() == everybody[1:]
    assert only.subjects() == everybody[:1]
    with pytest.raises(SourceError):
        source.model_copy(update={"only_subjects": ("nobody",)}).listing()


def test_a_moved_folder_is_the_same_data(source: Source, tmp_path: Path) -> None:
    before = source.listing()
    if (tmp_path / "data").exists():
        shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    text = source.model_dump_json().replace(str(tmp_path / "data"), str(tmp_path / "elsewhere"))
    assert TypeAdapter(AnySource).validate_json(text).listing().fingerprint == before.fingerprint
    assert str(tmp_path) not in before.model_dump_json()


def test_ingest_is_idempotent(source: Source, tmp_path: Path) -> None:
    contract = ImageContract(modality="ct", size=16, pixel_mm=4.0, low=-1000, high=2000)
    digests = []
    for _ in range(2):
        data = DatasetStore.create(
            str(tmp_path / "store"), source.listing(), contract=contract, recipe={}, shard_size=4
        )
        for shard in data.shards.pending():
            data.ingest(shard, source.load)
        data.finish()
        digests.append(data.shards.content_digest())
    assert digests[0] == digests[1]
    assert data.shards.verify() == []
    assert 0 <= data.images(0, len(data)).min() < data.images(0, len(data)).max() <= 1


def test_names_that_are_no_text_are_left_out_and_shown(tmp_path: Path) -> None:
    names = ("Mü#1 %?.nii", "M\udcfcller.nii", "two\nlines.nii", "x" * 240 + ".nii", "a:b.nii", " s p .nii")
    for name in names:
        nifti_files.save(tmp_path / "in" / "tmp.nii", nifti_files.anatomy()).rename(tmp_path / "in" / name)
    found = NiftiSource(path=str(tmp_path / "in")).listing()
    assert {item.file for item in found.rejected} == {"M\N{REPLACEMENT CHARACTER}ller.nii", "two<0a>lines.nii"}
    assert any("not UTF-8" in item.reason for item in found.rejected)
    assert sorted(found.subjects()) == sorted(name.removesuffix(".nii") for name in (names[0], *names[3:]))
    found.model_dump_json()


def test_an_accent_is_one_letter_or_two(tmp_path: Path) -> None:
    composed, decomposed = "M\N{LATIN SMALL LETTER U WITH DIAERESIS}", "Mu\N{COMBINING DIAERESIS}"
    nifti_files.save(tmp_path / decomposed / "t1.nii", nifti_files.anatomy())
    nifti_files.save(tmp_path / composed / "t2.nii", nifti_files.anatomy())
    assert NiftiSource(path=str(tmp_path)).listing().subjects() == [composed]
    chosen = NiftiSource(path=str(tmp_path), pattern=f"*{composed}*", only_subjects=(decomposed,)).listing()
    assert len(chosen.volumes) == 2
