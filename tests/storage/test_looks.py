"""A data set that shows nothing is an error that names its volume and the fields; slices of air are not."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from scoreinv.contract import ImageContract
from scoreinv.modality import MODALITIES
from storage.datasets import DatasetStore
from storage.errors import SourceError
from storage.listing import Listing, SliceRecord

SIZE = 32
BODY = np.pad(np.full((16, 16), 0.7), 8) + 0.05 * np.random.default_rng(0).standard_normal((32, 32))
AIR = np.zeros((SIZE, SIZE))
FITTING = {"low": 0.0, "high": 1.0, "pixel_mm": 2.0}


def filled(folder: Path, slices: dict[str, list[np.ndarray]], contract: dict[str, float]) -> DatasetStore:
    """A data set of these volumes, pixels of 2 mm, before it is finished."""
    values = {f"{name}#{i}": one for name, volume in slices.items() for i, one in enumerate(volume)}
    records = [
        SliceRecord(
            slice_id=name,
            volume_id=name.split("#")[0],
            subject_id=name,
            file=name.split("#")[0],
            index=i,
            position_mm=float(i),
            spacing_mm=(2.0, 2.0),
            shape=(SIZE, SIZE),
        )
        for i, name in enumerate(values)
    ]
    listing = Listing(slices=tuple(records), volumes={name: {"units": MODALITIES["mri"].units} for name in slices})
    image = ImageContract(modality="mri", **{"size": SIZE, **contract})
    data = DatasetStore.create(str(folder / "data"), listing, contract=image, recipe={}, shard_size=2)

    def load(wanted: Sequence[SliceRecord]) -> Iterator[np.ndarray]:
        return (values[record.slice_id].astype(np.float32) for record in wanted)

    for shard in data.shards.pending():
        data.ingest(shard, load)
    return data


def test_a_volume_with_slices_of_air_is_fine(tmp_path: Path) -> None:
    data = filled(tmp_path, {"head": [AIR, BODY, AIR, AIR, AIR]}, FITTING)
    data.finish()
    assert data.shards.is_finished()


NOTHING = {
    "values far below the range": ({"high": 1000.0}, "nearly all black", "image.high=1000"),
    "values above the range": ({"high": 0.01}, "saturated", "between -0.1"),
    "slices far smaller than the image": (
        {"pixel_mm": 100.0, "size": 1000},
        "nearly all black",
        "64 x 64 mm, the image 100000",
    ),
    "slices far larger than the image": ({"pixel_mm": 1e-4}, "constant", "image.pixel_mm=0.0001"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_fields_that_do_not_fit_are_named(tmp_path: Path, case: str) -> None:
    change, what, field = NOTHING[case]
    data = filled(tmp_path, {"head": [BODY, AIR], "knee": [BODY]}, {**FITTING, **change})
    with pytest.raises(SourceError, match="2 of 2 volumes") as caught:
        data.finish()
    for text in ("head", "knee", what, field):
        assert text in str(caught.value)
    assert not data.shards.is_finished()


def test_the_one_volume_that_shows_nothing_is_named(tmp_path: Path) -> None:
    data = filled(tmp_path, {"head": [BODY, BODY], "black": [AIR, AIR]}, FITTING)
    with pytest.raises(SourceError, match=r"1 of 2 volumes .*black: it comes out nearly all black"):
        data.finish()


def test_values_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="slice 1 of head"):
        filled(tmp_path, {"head": [BODY, np.where(BODY > 0.7, np.nan, BODY)]}, FITTING)
