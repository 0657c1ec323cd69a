"""Shards as bytes: what zarr would put into a store, made in memory, so that a file is put whole and only once.

A shard is one object under ``<name>/c/<index>/0/...``: its slices, each compressed and with a checksum, then an index.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore, StorePath

from scoreinv.spec import Json
from storage.uri import local_path, read_bytes, read_range

WHOLE_BYTES = 1 << 21
"""Objects up to this size come whole from a bucket: a second request would take longer than the rest of them."""

_ENTRY, _INDEX_CHECKSUM = np.dtype("<u8"), 4
"""The index at the end of a shard: offset and length of each slice, then bytes of a checksum (zarr 3, sharding)."""


class ArrayLayout(NamedTuple):
    """Shape of one slice of an array, and its type."""

    shape: tuple[int, ...]
    dtype: str = "float32"


Files = dict[str, bytes]
"""The zarr.json of a group and of its arrays, by their names within the store."""


def metadata_files(n: int, shard_size: int, layouts: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]) -> Files:
    """What describes arrays of n slices to any zarr reader."""
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
            compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()],
            fill_value=_fill_value(dtype),
            dimension_names=_dimension_names(len(shape)),
        )
    return {key: buffer.to_bytes() for key, buffer in content.items()}


def object_key(name: str, layout: ArrayLayout, index: int) -> str:
    """The name of a shard's object within the store."""
    return "/".join([name, "c", str(index), *("0" for _ in layout.shape)])


def encoded(files: Files, key: str, start: int, values: np.ndarray) -> bytes:
    """The object that holds these slices, from ``start`` on; ``key`` is its name within the store."""
    content: dict[str, Buffer] = {}
    # A shard of nothing but fill values would otherwise not be stored.
    array = _in_memory(files, key, content, mode="r+").with_config({"write_empty_chunks": True})
    array[start : start + len(values)] = values
    return content[key].to_bytes()


def decoded(files: Files, key: str, content: bytes, start: int, stop: int) -> np.ndarray:
    """Slices ``start`` to ``stop`` of the store, which lie in this object, as far as ``content`` holds them."""
    held = {key: default_buffer_prototype().buffer.from_bytes(content)}
    return np.asarray(_in_memory(files, key, held, mode="r")[start:stop])


def _in_memory(files: Files, key: str, content: dict[str, Buffer], *, mode: Literal["r", "r+"]) -> zarr.Array[Any]:
    name = key.partition("/")[0]
    content[f"{name}/zarr.json"] = default_buffer_prototype().buffer.from_bytes(files[f"{name}/zarr.json"])
    return zarr.open_array(MemoryStore(content), path=name, mode=mode)


def fetched(uri: str, size: int, shard_size: int, first: int, last: int) -> bytes:
    """The object at a URI, or a part of it with the rest as zeros: its index and slices ``first`` to ``last`` of it.

    What is small, or wanted for the most part, comes in one request, the rest in two.

    Raises:
        StoreNotFound: if it does not exist.
    """
    n_index = shard_size * _ENTRY.itemsize * 2 + _INDEX_CHECKSUM
    if size <= max(WHOLE_BYTES, n_index) or 2 * (last - first) >= shard_size:
        return read_bytes(uri)
    index = read_range(uri, size - n_index, size)
    places = np.frombuffer(index[:-_INDEX_CHECKSUM], _ENTRY)[2 * first : 2 * last].reshape(-1, 2).tolist()
    # A damaged index may say anything.
    high = min(max(start + length for start, length in places), size - n_index)
    low = min(high, *(start for start, _ in places))
    part = read_range(uri, low, high) if low < high else b""
    return b"".join([bytes(low), part, bytes(size - n_index - low - len(part)), index])


def stored_array(uri: str, files: Files, name: str) -> zarr.Array[Any]:
    """An array of a store on this machine, to read from; how it is described there is not looked at."""
    store = LocalStore(local_path(uri), read_only=True)
    return zarr.Array.from_dict(StorePath(store, name), json.loads(files[f"{name}/zarr.json"]))


def _fill_value(dtype: str) -> complex | float | int:
    return {"f": float("nan"), "c": complex("nan+nanj")}.get(np.dtype(dtype).kind, 0)


def _dimension_names(ndim: int) -> list[str]:
    image = ["row", "column"][-ndim:] if ndim >= 2 else ["entry"] * ndim
    return ["slice", *(f"axis_{i}" for i in range(1, ndim - 1)), *image]
