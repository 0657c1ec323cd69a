"""Shards as bytes: what zarr would put into a store, made in memory, so that a file is put whole and only once.

A shard is one object under ``<name>/c/<index>/0/...``: its slices, each compressed and with a checksum, then an index
of where each begins and how long it is, with a checksum too (zarr 3, "sharding_indexed"). These bytes are made and read
here, as zarr's event loop and threads take several times as long for small slices.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np
import zarr
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from scoreinv.spec import Json
from storage.errors import StoreNotFound
from storage.uri import is_local, local_path, read_bytes, read_range


class ArrayLayout(NamedTuple):
    """Shape of one slice of an array, and its type."""

    shape: tuple[int, ...]
    dtype: str = "float32"


Files = dict[str, bytes]
"""The zarr.json of a group and of its arrays, by their names within the store."""

_LEVEL = 3
"""Of the compression by zstd."""

_CHECKSUM_BYTES = 4

WHOLE_BYTES = 1 << 21
"""Objects up to this size come whole from a bucket: a second request would take longer than the rest of them."""

_NOT_THERE = 2**64 - 1
"""Begin and length, in an index, of a slice that the shard does not have."""


@lru_cache(maxsize=32)
def array_files(n: int, shard_size: int, layouts: tuple[tuple[str, ArrayLayout], ...]) -> Files:
    """What describes arrays of n slices to any zarr reader, without the group; not to be changed."""
    files = metadata_files(n, shard_size, dict(layouts), {})
    return {key: content for key, content in files.items() if key != "zarr.json"}


def metadata_files(n: int, shard_size: int, layouts: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]) -> Files:
    """What describes a group of arrays of n slices to any zarr reader."""
    content: dict[str, Buffer] = {}
    group = zarr.open_group(MemoryStore(content), mode="w", zarr_format=3, attributes=dict(attrs))
    for name, (shape, dtype) in layouts.items():
        group.create_array(
            name,
            shape=(n, *shape),
            dtype=dtype,
            chunks=(1, *shape),
            shards=(shard_size, *shape),
            # Without a checksum a flipped byte is read back as if nothing had happened.
            compressors=[BloscCodec(cname="zstd", clevel=_LEVEL, shuffle="bitshuffle"), Crc32cCodec()],
            fill_value=_fill_value(dtype),
            dimension_names=_dimension_names(len(shape)),
        )
    return {key: buffer.to_bytes() for key, buffer in content.items()}


def object_key(name: str, layout: ArrayLayout, index: int) -> str:
    """The name of a shard's object within the store."""
    return "/".join([name, "c", str(index), *("0" for _ in layout.shape)])


def encoded(files: Files, key: str, start: int, values: np.ndarray) -> bytes:
    """The object that holds these slices, from ``start`` on; ``key`` is its name within the store."""
    described = json.loads(files[f"{key.partition('/')[0]}/zarr.json"])
    n_places = int(described["chunk_grid"]["configuration"]["chunk_shape"][0])
    first = start % n_places
    compressor = Blosc(cname="zstd", clevel=_LEVEL, shuffle=Blosc.BITSHUFFLE, typesize=values.dtype.itemsize)
    slices = [_sealed(bytes(compressor.encode(np.ascontiguousarray(one)))) for one in values]
    index = np.full((n_places, 2), _NOT_THERE, "<u8")
    lengths = [len(one) for one in slices]
    index[first : first + len(slices), 0] = np.cumsum([0, *lengths[:-1]])
    index[first : first + len(slices), 1] = lengths
    return b"".join([*slices, _sealed(index.tobytes())])


def decoded(file: BinaryIO, layout: ArrayLayout, n_places: int, first: int, last: int) -> np.ndarray:
    """Slices ``first`` to ``last`` of the shard in a file; fill values where there is no slice, as zarr has it.

    Args:
        file: the object, or what ``opened`` brought of it.
        layout: of the array.
        n_places: slices that a whole shard has.
        first: included; counts within the shard.
        last: excluded.

    Raises:
        ValueError: if the file is damaged.
        RuntimeError: if a slice cannot be decompressed.
    """
    values = np.full((last - first, *layout.shape), _fill_value(layout.dtype), layout.dtype)
    for place, (begin, length) in enumerate(_read_index(file, n_places)[first:last]):
        if begin != _NOT_THERE:
            file.seek(begin)
            raw = Blosc().decode(_unsealed(file.read(length)))
            values[place] = np.frombuffer(raw, layout.dtype).reshape(layout.shape)
    return values


@contextmanager
def opened(uri: str, size: int, n_places: int, first: int, last: int) -> Iterator[BinaryIO]:
    """The object at a URI, to decode slices ``first`` to ``last`` of.

    In a bucket what is small, or wanted for the most part, comes in one request, the rest in two.

    Args:
        uri: of the object.
        size: of the object in bytes.
        n_places: slices that a whole shard has.
        first: included; counts within the shard.
        last: excluded.

    Raises:
        StoreNotFound: if it does not exist.
    """
    if not is_local(uri):
        yield BytesIO(_fetched(uri, size, n_places, first, last))
        return
    try:
        file = local_path(uri).open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise StoreNotFound(f"there is no file {uri}") from error
    with file:
        yield file


def _fetched(uri: str, size: int, n_places: int, first: int, last: int) -> bytes:
    """A whole object of a bucket, or its index and some slices, with the rest as zeros."""
    n_index = 16 * n_places + _CHECKSUM_BYTES
    if size <= max(WHOLE_BYTES, n_index) or 2 * (last - first) >= n_places:
        return read_bytes(uri)
    index = read_range(uri, size - n_index, size)
    places = np.frombuffer(index[:-_CHECKSUM_BYTES], "<u8")[2 * first : 2 * last].reshape(-1, 2).tolist()
    # A damaged index may say anything.
    high = min(max(start + length for start, length in places), size - n_index)
    low = min(high, *(start for start, _ in places))
    part = read_range(uri, low, high) if low < high else b""
    return b"".join([bytes(low), part, bytes(size - n_index - low - len(part)), index])


def _read_index(file: BinaryIO, n_places: int) -> list[tuple[int, int]]:
    """Where each slice of a shard begins and how long it is; none of an empty file."""
    n_bytes = 16 * n_places + _CHECKSUM_BYTES
    if (size := file.seek(0, os.SEEK_END)) == 0:
        return []
    if size < n_bytes:
        raise ValueError(f"{size} bytes are too few for a shard")
    file.seek(-n_bytes, os.SEEK_END)
    return [(begin, length) for begin, length in np.frombuffer(_unsealed(file.read()), "<u8").reshape(-1, 2).tolist()]


def _sealed(content: bytes) -> bytes:
    return content + int(google_crc32c.value(content)).to_bytes(_CHECKSUM_BYTES, "little")


def _unsealed(content: bytes) -> bytes:
    inner = content[:-_CHECKSUM_BYTES]
    if _sealed(inner) != content:
        raise ValueError("a checksum does not match")
    return inner


def _fill_value(dtype: str) -> complex | float | int:
    return {"f": float("nan"), "c": complex("nan+nanj")}.get(np.dtype(dtype).kind, 0)


def _dimension_names(ndim: int) -> list[str]:
    image = ["row", "column"][-ndim:] if ndim >= 2 else ["entry"] * ndim
    return ["slice", *(f"axis_{i}" for i in range(1, ndim - 1)), *image]
