"""Shards as bytes: what zarr would put into a store, made in memory, so that a file is put whole and only once.

A shard is one object under ``<name>/c/<index>/0/...``: its slices, each compressed and with a checksum, then an index.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore, StorePath

from scoreinv.spec import Json
from storage.stores import zarr_store


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
    name = key.partition("/")[0]
    described = default_buffer_prototype().buffer.from_bytes(files[f"{name}/zarr.json"])
    content: dict[str, Buffer] = {f"{name}/zarr.json": described}
    array = zarr.open_array(MemoryStore(content), path=name, mode="r+")
    # A shard of nothing but fill values would otherwise not be stored.
    array.with_config({"write_empty_chunks": True})[start : start + len(values)] = values
    return content[key].to_bytes()


def stored_array(uri: str, files: Files, name: str) -> zarr.Array[Any]:
    """An array of the store at a URI, to read from; how it is described there is not looked at."""
    return zarr.Array.from_dict(StorePath(zarr_store(uri), name), json.loads(files[f"{name}/zarr.json"]))


def _fill_value(dtype: str) -> complex | float | int:
    return {"f": float("nan"), "c": complex("nan+nanj")}.get(np.dtype(dtype).kind, 0)


def _dimension_names(ndim: int) -> list[str]:
    image = ["row", "column"][-ndim:] if ndim >= 2 else ["entry"] * ndim
    return ["slice", *(f"axis_{i}" for i in range(1, ndim - 1)), *image]
