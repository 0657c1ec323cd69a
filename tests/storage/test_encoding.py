"""Shards as bytes are those that zarr makes, to the last one, and what zarr reads of them."""

from io import BytesIO

import numpy as np
import pytest
import zarr
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from storage.encoding import ArrayLayout, decoded, encoded, metadata_files, object_key

LAYOUTS = [
    ArrayLayout(()),
    ArrayLayout((3,), "float64"),
    ArrayLayout((40, 24)),
    ArrayLayout((2, 5, 7), "complex64"),
    ArrayLayout((6, 6), "bool"),
]
N, N_PLACES = 11, 4


def by_zarr(layout: ArrayLayout, index: int, values: np.ndarray) -> bytes:
    """The object of a shard that zarr itself writes."""
    described = metadata_files(N, N_PLACES, {"a": layout}, {})["a/zarr.json"]
    content: dict[str, Buffer] = {"a/zarr.json": default_buffer_prototype().buffer.from_bytes(described)}
    array = zarr.open_array(MemoryStore(content), path="a", mode="r+").with_config({"write_empty_chunks": True})
    array[index * N_PLACES : index * N_PLACES + len(values)] = values
    return content[object_key("a", layout, index)].to_bytes()


def shard_of(layout: ArrayLayout, index: int) -> np.ndarray:
    n = min(N_PLACES, N - index * N_PLACES)
    return (3 * np.random.default_rng(index).normal(size=(n, *layout.shape))).astype(layout.dtype)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("index", [1, 2], ids=["whole", "last"])
def test_a_shard_has_the_bytes_that_zarr_gives_it(layout: ArrayLayout, index: int) -> None:
    values, files = shard_of(layout, index), metadata_files(N, N_PLACES, {"a": layout}, {})
    content = encoded(files, object_key("a", layout, index), index * N_PLACES, values)
    assert content == by_zarr(layout, index, values)
    assert np.array_equal(decoded(BytesIO(content), layout, N_PLACES, 0, len(values)), values)
    assert np.array_equal(decoded(BytesIO(content), layout, N_PLACES, 1, 3), values[1:3])


def test_what_is_not_there_reads_as_fill_values_as_in_zarr() -> None:
    layout = ArrayLayout((2,))
    assert np.isnan(decoded(BytesIO(), layout, N_PLACES, 0, 2)).all()
    short = BytesIO(by_zarr(layout, 2, shard_of(layout, 2)))
    assert np.isnan(decoded(short, layout, N_PLACES, 0, 4)).all(1).tolist() == [False, False, False, True]


def test_every_flipped_or_lost_byte_of_a_shard_is_seen() -> None:
    layout = ArrayLayout((2, 2))
    content = by_zarr(layout, 1, shard_of(layout, 1))
    for damaged in (content[:-1], content[:20], *(flipped(content, place) for place in range(len(content)))):
        with pytest.raises((ValueError, RuntimeError)):
            decoded(BytesIO(damaged), layout, N_PLACES, 0, 4)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]
