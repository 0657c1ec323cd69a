"""Fingerprints, of sources and of data sets, against what was put into them."""

from pathlib import Path

import numpy as np
import pytest

from scoreinv.contract import ImageContract
from storage.datasets import DatasetStore
from storage.errors import SourceError
from storage.fingerprint import Fingerprint, fingerprint_of_dataset, fingerprint_of_source
from storage.listing import Rejected
from storage.sources import DicomSource, PhantomSource, SeveralSources
from tests.storage.dicom_files import write_series

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_slices_as_their_readme_describes_them() -> None:
    found = fingerprint_of_source(DicomSource(path=str(EXAMPLES / "ct")), max_volumes=64)
    assert (found.modality, found.n_slices, found.n_volumes, found.n_subjects) == ("ct", 8, 2, 2)
    assert found.is_complete
    assert found.rows == found.columns == (512, 512, 512)
    assert found.pixel_mm[::2] == pytest.approx((0.842, 0.898), abs=1e-3)
    assert found.width_mm[::2] == pytest.approx((431, 460), abs=1)
    assert found.rejected == ()


def test_a_large_source_is_read_as_far_as_asked_and_says_so() -> None:
    source = PhantomSource(n_volumes=5, n_slices=3)
    some = fingerprint_of_source(source, max_volumes=2)
    assert (some.n_volumes, some.n_slices, some.is_complete) == (2, 6, False)
    every = fingerprint_of_source(source, max_volumes=5)
    assert (every.n_volumes, every.n_slices, every.is_complete) == (5, 15, True)


def test_what_cannot_be_read_is_kept_with_its_reason(tmp_path: Path) -> None:
    files = write_series(tmp_path, [0, 1, 2])
    files[1].write_bytes(files[1].read_bytes()[:-100])
    found = fingerprint_of_source(DicomSource(path=str(tmp_path), identities="kept"), max_volumes=64)
    (bad,) = found.rejected
    assert bad.file == "0001.dcm"
    assert "truncated" in bad.reason
    assert found.n_slices == 2
    (bad,) = fingerprint_of_source(DicomSource(path=str(tmp_path)), max_volumes=64).rejected
    assert bad == Rejected(file="a file", reason="truncated")


def test_two_modalities_in_one_source_are_refused() -> None:
    mixed = SeveralSources(sources=(PhantomSource(modality="ct"), PhantomSource(modality="mri")))
    with pytest.raises(SourceError, match="HU and volume percentile"):
        fingerprint_of_source(mixed, max_volumes=64)


def test_the_share_outside_a_window_is_that_of_the_values() -> None:
    values = np.random.default_rng(0).normal(100, 50, 20_000)
    quantiles = tuple(np.quantile(values, np.linspace(0, 1, 1001)).tolist())
    size = (1.0, 1.0, 1.0)
    found = Fingerprint(
        modality="ct",
        n_slices=1,
        n_volumes=1,
        n_subjects=1,
        is_complete=True,
        rows=size,
        columns=size,
        pixel_mm=size,
        width_mm=size,
        body_values=quantiles,
        rejected=(),
    )
    for low, high in ((-1000, 1000), (0, 200), (100, 1000), (-1000, 150)):
        truth = float(((values < low) | (values > high)).mean())
        assert found.share_outside(low, high) == pytest.approx(truth, abs=2e-3)


def test_a_data_set_has_the_fingerprint_of_its_source_within_its_window(tmp_path: Path) -> None:
    source = PhantomSource(modality="ct", n_volumes=2, n_slices=3)
    contract = ImageContract(modality="ct", size=64, pixel_mm=5.0, low=-1000, high=100)
    store = DatasetStore.create(str(tmp_path / "set"), source.listing(), contract=contract, recipe={})
    for shard in store.shards.pending():
        store.ingest(shard, source.load)
    store.finish()
    of_source, of_dataset = fingerprint_of_source(source, max_volumes=9), fingerprint_of_dataset(store)
    assert of_dataset.model_dump(exclude={"body_values"}) == of_source.model_dump(exclude={"body_values"})
    assert of_source.body_values[-1] > 100
    assert of_dataset.body_values[-1] == 100
    # The grid is the source's, so below the window's end nothing changes.
    assert of_dataset.body_values[100] == pytest.approx(of_source.body_values[100], abs=0.1)
