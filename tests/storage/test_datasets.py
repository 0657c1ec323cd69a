"""Image data sets: from a source to images on a grid and back."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from scoreinv.contract import ImageContract
from storage.datasets import DatasetStore
from storage.errors import SourceError, StoreError, StoreIncomplete, StoreMismatch
from storage.listing import Listing, SliceRecord, checksum_of
from storage.resample import prepare
from storage.sources.phantom import PhantomSource
from storage.uri import delete, join, read_bytes, write_bytes

SOURCE = PhantomSource(n_volumes=3, n_slices=3, size=32, pixel_mm=8.0)
CONTRACT = ImageContract(modality="ct", size=16, pixel_mm=16.0, low=-1000, high=1000)


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "data") if request.param == "local" else f"memory://{tmp_path.name}/data"


def make(uri: str, *, fine_factor: int = 2, listing: Listing | None = None) -> DatasetStore:
    recipe = SOURCE.model_dump(mode="json")
    return DatasetStore.create(
        uri, listing or SOURCE.listing(), contract=CONTRACT, recipe=recipe, shard_size=4, fine_factor=fine_factor
    )


def fill(data: DatasetStore) -> None:
    for shard in data.shards.pending():
        data.ingest(shard, SOURCE.load, record={"n": shard.stop - shard.start})
    data.finish(manifest={"seconds": 1.0})


def test_every_image_is_its_slice_on_the_contracts_grid(uri: str) -> None:
    fill(make(uri))
    data = DatasetStore.open(uri)
    assert len(data) == 9
    assert data.contract == CONTRACT
    for i, (record, values) in enumerate(zip(data.records, SOURCE.load(data.records), strict=True)):
        image, fine = prepare(values, record.spacing_mm, CONTRACT, fine_factor=2)
        np.testing.assert_array_equal(data.images(i, i + 1)[0], image)
        np.testing.assert_array_equal(data.fine_images(i, i + 1)[0], fine)
    blocks = data.fine_images(0, 9).reshape(9, 16, 2, 16, 2).mean((2, 4))
    np.testing.assert_allclose(data.images(0, 9), blocks, atol=1e-6)


def test_records_come_back_as_they_were_listed(uri: str) -> None:
    listing = SOURCE.listing()
    make(uri, listing=listing)
    data = DatasetStore.open(uri, finished=False)
    assert data.listing == listing
    assert data.listing.fingerprint == listing.fingerprint
    assert data.listing.subjects() == ["phantom-0", "phantom-1", "phantom-2"]


def test_manifest_counts(uri: str) -> None:
    data = make(uri)
    fill(data)
    manifest = data.shards.manifest()
    assert manifest == {"n_slices": 9, "n_volumes": 3, "n_subjects": 3, "rejected": [], "seconds": 1.0}


def test_a_volumes_range_is_of_its_own_slices_in_whatever_shard(uri: str) -> None:
    data = make(uri)
    fill(data)
    values = np.stack(list(SOURCE.load(data.records))).reshape(3, -1)
    expected = np.repeat(np.stack([values.min(1), values.max(1)], 1), 3, axis=0)
    found = [data.volume_ranges(shard) for shard in data.shards.plan()]
    assert [len(one) for one in found] == [4, 4, 1], "shards do not end where volumes do"
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5)


def test_without_fine_images(uri: str) -> None:
    data = make(uri, fine_factor=1)
    fill(data)
    with pytest.raises(ValueError, match="fine_factor=2"):
        data.fine_images(0, 1)
    image = prepare(next(SOURCE.load(data.records[:1])), data.records[0].spacing_mm, CONTRACT)[0]
    np.testing.assert_array_equal(data.images(0, 1)[0], image)


def test_same_request_resumes_and_another_is_refused(uri: str) -> None:
    data = make(uri)
    data.ingest(data.shards.plan()[0], SOURCE.load)
    assert [shard.index for shard in make(uri).shards.pending()] == [1, 2]
    with pytest.raises(StoreMismatch, match="attrs"):
        make(uri, listing=SOURCE.model_copy(update={"seed": 5}).listing())


def test_a_worker_gets_the_data_set_by_its_uri(uri: str) -> None:
    data = make(uri)
    copy = pickle.loads(pickle.dumps(data))
    fill(copy)
    np.testing.assert_array_equal(data.images(0, 9), copy.images(0, 9))


def test_a_slice_that_changed_since_it_was_listed_is_refused(uri: str) -> None:
    data = make(uri)

    def other(records: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        return (values + 1 for values in SOURCE.load(records))

    with pytest.raises(SourceError, match="has changed"):
        data.ingest(data.shards.plan()[0], other)
    assert len(data.shards.pending()) == 3


def test_units_must_be_the_contracts(uri: str) -> None:
    listing = SOURCE.model_copy(update={"modality": "mri"}).listing()
    with pytest.raises(SourceError, match="volume percentile"):
        make(uri, listing=listing)


def test_interrupted_creation_is_named_and_resumed(uri: str) -> None:
    make(uri)
    delete(join(uri, "slices.json"))
    with pytest.raises(StoreIncomplete, match="interrupted"):
        DatasetStore.open(uri, finished=False).records  # noqa: B018
    fill(make(uri))
    assert len(DatasetStore.open(uri).records) == 9


def test_checksum_depends_on_values_and_shape_only() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert checksum_of(values) == checksum_of(np.asfortranarray(values.astype(np.float64)))
    assert checksum_of(values) != checksum_of(values.reshape(3, 2))
    assert checksum_of(values) != checksum_of(values + 1)


@pytest.mark.parametrize("content", [b"", b"{}", "flipped"])
def test_a_damaged_listing_is_refused_and_put_anew(uri: str, content: bytes | str) -> None:
    """Also where it is still a listing: of another person."""
    fill(make(uri))
    listing = join(uri, "slices.json")
    whole = read_bytes(listing)
    write_bytes(listing, whole.replace(b"phantom-1", b"phantom-7") if isinstance(content, str) else content)
    with pytest.raises(StoreError, match=r"slices\.json is damaged.*run the ingest command again"):
        len(DatasetStore.open(uri).records)
    assert make(uri).shards.is_finished()
    assert read_bytes(listing) == whole
