"""The one place where arrays are written: stores that are filled shard by shard and can be resumed.

A shard is one object that holds a run of slices. zarr does no locking, so two writers in one shard
lose data silently; therefore a shard is written whole, by one writer, and only then is its marker
``done/<index>.json`` put, with the sha256 of what was written. What is left to do is the plan minus
the markers. An interruption leaves a shard without a marker, which is written again.

Layout of a store::

    plan.json          n, shard_size, layout of the arrays, attributes: put first, decides what may be written here
    zarr.json, <name>/ one zarr 3 array per name: chunk = one slice, shard = shard_size slices
    done/<index>.json  one marker per finished shard
    manifest.json      what the run says about itself, put when every shard is done
    _SUCCESS           put last
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import ContainsArrayError

import scoreinv
from scoreinv.spec import Json, digest_of
from storage.errors import StoreError, StoreIncomplete, StoreMismatch, StoreNotFound, full_disk_explained
from storage.stores import open_group, zarr_store
from storage.uri import delete, exists, is_local, join, list_names, local_path, read_json, write_json

FORMAT = "scoreinv-shards-1"


class ArrayLayout(NamedTuple):
    """Shape of one slice of an array, and its type."""

    shape: tuple[int, ...]
    dtype: str = "float32"


class Shard(NamedTuple):
    """Slices ``start`` (included) to ``stop`` (excluded)."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    start: int
    stop: int


class ShardedStore:
    """Arrays of ``n`` slices each, and one JSON record per shard, under a URI.

    A store pickles as its URI, so it travels to workers as a few bytes.
    """

    def __init__(self, uri: str, plan: Mapping[str, Any]) -> None:
        self.uri = uri
        self.n = int(plan["n"])
        self.shard_size = int(plan["shard_size"])
        self.attrs: dict[str, Any] = dict(plan["attrs"])
        self.layouts = {name: ArrayLayout(tuple(item["shape"]), item["dtype"]) for name, item in plan["arrays"].items()}
        self._open_arrays: dict[str, zarr.Array[Any]] = {}
        self._readable: set[tuple[str, int]] = set()

    @classmethod
    def create(
        cls, uri: str, *, n: int, shard_size: int, arrays: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]
    ) -> Self:
        """The store with this plan, made if it is not there yet, else reopened to be resumed.

        Raises:
            StoreMismatch: if there is a store with another plan in this place.
        """
        plan = _plan_json(n, shard_size, arrays, attrs)
        plan_uri = join(uri, "plan.json")
        if not exists(plan_uri):
            write_json(plan_uri, plan)
        _refuse_other_plan(uri, read_json(plan_uri), plan)
        store = cls(uri, plan)
        with full_disk_explained(uri):
            store._create_arrays()
        return store

    @classmethod
    def open(cls, uri: str, *, finished: bool = True) -> Self:
        """The store at a URI; with ``finished=False`` one that is still being filled will do.

        Raises:
            StoreNotFound: if there is none.
            StoreIncomplete: if it is not finished; the message says which shards are missing.
        """
        if not exists(join(uri, "plan.json")):
            raise StoreNotFound(f"there is no store at {uri} (no plan.json there): run the command that makes it first")
        plan = read_json(join(uri, "plan.json"))
        if plan.get("format") != FORMAT:
            raise StoreMismatch(f"{uri} has format {plan.get('format')!r}, this version reads {FORMAT!r}: make it anew")
        store = cls(uri, plan)
        if finished and not store.is_finished():
            raise StoreIncomplete(store._what_is_missing())
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker may run in another folder.
        uri = str(local_path(self.uri).absolute()) if is_local(self.uri) else self.uri
        return (_reopen, (type(self), uri))

    def __len__(self) -> int:
        return self.n

    def plan(self) -> list[Shard]:
        """All shards, in order; the last one may be shorter."""
        starts = range(0, self.n, self.shard_size)
        return [Shard(i, start, min(start + self.shard_size, self.n)) for i, start in enumerate(starts)]

    def pending(self) -> list[Shard]:
        """The shards that have no done marker yet, in order."""
        done = self._done()
        return [shard for shard in self.plan() if shard.index not in done]

    def write(self, shard: Shard, arrays: Mapping[str, np.ndarray], *, record: Mapping[str, Json]) -> None:
        """Writes one whole shard of every array, then its marker.

        Args:
            arrays: one array of shape ``(stop - start, *layout.shape)`` per name; types are widened or
                narrowed within their kind (float64 to float32), never across (complex to float).
            record: what to remember about this shard, returned by ``records``.

        Raises:
            ValueError: if this is not exactly one shard of the plan, or an array does not fit its layout.
            StoreFull: if the disk is full; the shard stays pending.
        """
        ready = self._check_shard(shard, arrays)
        if self.is_finished():
            raise StoreError(f"{self.uri} is finished: discard shard {shard.index} before writing it again")
        # A shard that is being rewritten is not done: a crash from here on leaves it pending.
        self._forget(shard)
        with full_disk_explained(self.uri):
            for name, values in ready.items():
                # zarr reads the old object even when all of it is replaced, and would stumble over a damaged one.
                delete(self._object_uri(name, shard.index))
                self._array(name)[shard.start : shard.stop] = values
            self._sync_to_disk(shard)
        write_json(self._marker_uri(shard.index), _marker(shard, ready, record))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Slices ``start`` to ``stop`` of an array.

        Raises:
            KeyError: if there is no array of this name.
            IndexError: if the range is not within 0 and n.
            StoreIncomplete: if some of the range is in a shard that is not done.
            StoreError: if a stored checksum does not match.
        """
        array = self._array(name)
        if not 0 <= start <= stop <= self.n:
            raise IndexError(f"slices {start} to {stop} were asked for, {self.uri} has 0 to {self.n}")
        self._require_done(name, start, stop)
        try:
            return np.asarray(array[start:stop])
        except (ValueError, RuntimeError) as error:
            raise StoreError(
                f"slices {start} to {stop} of {name!r} in {self.uri} are damaged ({error}): "
                "verify() names the shard; discard it and run the command that makes the store again"
            ) from error

    def records(self) -> list[dict[str, Any]]:
        """The records of the shards that are done, in order."""
        return [self._read_marker(index)["record"] for index in sorted(self._done())]

    def record(self, index: int) -> dict[str, Any]:
        """The record of one shard that is done."""
        return dict(self._read_marker(index)["record"])

    def verify(self) -> list[str]:
        """What is wrong with the shards that are done, as sentences; every value is read again."""
        done = self._done()
        shards = [shard for shard in self.plan() if shard.index in done]
        return [problem for shard in shards for problem in self._verify_shard(shard)]

    def discard(self, shard: Shard) -> None:
        """Removes a shard's marker (and the store's finished mark), so that the shard is made again."""
        self._refuse_foreign(shard)
        delete(join(self.uri, "_SUCCESS"))
        self._forget(shard)

    def finish(self, *, manifest: Mapping[str, Json] | None = None) -> None:
        """Marks the store as finished; what it says about itself goes to manifest.json.

        Raises:
            StoreIncomplete: if shards are missing.
        """
        if self.pending():
            raise StoreIncomplete(self._what_is_missing())
        content = {"n": self.n, "content_digest": self.content_digest(), "versions": _versions()}
        write_json(join(self.uri, "manifest.json"), {**content, "manifest": dict(manifest or {})})
        write_json(join(self.uri, "_SUCCESS"), {"content_digest": content["content_digest"]})

    def is_finished(self) -> bool:
        """Whether ``finish`` has been called and no shard was discarded since."""
        return exists(join(self.uri, "_SUCCESS"))

    def manifest(self) -> dict[str, Any]:
        """What ``finish`` was given."""
        return dict(read_json(join(self.uri, "manifest.json"))["manifest"])

    def content_digest(self) -> str:
        """12 hexadecimal digits that depend on the values of every shard that is done, and on nothing else."""
        return digest_of(*(self._read_marker(index)["sha256"] for index in sorted(self._done())))

    def _create_arrays(self) -> None:
        group = open_group(self.uri)
        if group.attrs.asdict() != self.attrs:
            group.attrs.put(self.attrs)
        for name in self.layouts:
            if name not in group:
                self._create_array(group, name)

    def _create_array(self, group: zarr.Group, name: str) -> None:
        shape, dtype = self.layouts[name]
        try:
            group.create_array(
                name,
                shape=(self.n, *shape),
                dtype=dtype,
                chunks=(1, *shape),
                shards=(self.shard_size, *shape),
                # Without a checksum a flipped byte is read back as if nothing had happened.
                compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()],
                fill_value=_fill_value(dtype),
                dimension_names=_dimension_names(len(shape)),
            )
        except ContainsArrayError:
            # Another process created it in the same moment, with the same plan.
            return

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self.layouts:
            raise KeyError(f"{self.uri} has no array {name!r}, only {sorted(self.layouts)}")
        if name not in self._open_arrays:
            try:
                array = zarr.open_array(zarr_store(self.uri), path=name, mode="r+")
            except FileNotFoundError as error:
                raise StoreIncomplete(
                    f"the creation of {self.uri} was interrupted: run the same command again"
                ) from error
            # An all-fill shard would otherwise not be stored, and its absence could not be told from a loss.
            self._open_arrays[name] = array.with_config({"write_empty_chunks": True})
        return self._open_arrays[name]

    def _check_shard(self, shard: Shard, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._refuse_foreign(shard)
        if set(arrays) != set(self.layouts):
            raise ValueError(f"{self.uri} needs arrays {sorted(self.layouts)}, got {sorted(arrays)}")
        return {
            name: _fit(name, np.asarray(arrays[name]), (shard.stop - shard.start, *layout.shape), layout.dtype)
            for name, layout in self.layouts.items()
        }

    def _refuse_foreign(self, shard: Shard) -> None:
        plan = self.plan()
        if not 0 <= shard.index < len(plan) or plan[shard.index] != shard:
            raise ValueError(
                f"{shard} is not a shard of {self.uri} ({self.n} slices in shards of {self.shard_size}): "
                "a shard is written whole, take it from plan() or pending()"
            )

    def _sync_to_disk(self, shard: Shard) -> None:
        # After a power cut a marker must never name a shard that is not on the disk.
        if not is_local(self.uri):
            return
        for name in self.layouts:
            with local_path(self._object_uri(name, shard.index)).open("rb") as file:
                os.fsync(file.fileno())

    def _object_uri(self, name: str, index: int) -> str:
        key = self._array(name).metadata.encode_chunk_key((index, *(0 for _ in self.layouts[name].shape)))
        return join(self.uri, name, key)

    def _done(self) -> set[int]:
        names = (name.removesuffix(".json") for name in list_names(join(self.uri, "done")))
        return {int(name) for name in names if name.isdecimal()}

    def _marker_uri(self, index: int) -> str:
        return join(self.uri, "done", f"{index}.json")

    def _read_marker(self, index: int) -> dict[str, Any]:
        return dict(read_json(self._marker_uri(index)))

    def _forget(self, shard: Shard) -> None:
        delete(self._marker_uri(shard.index))
        self._readable = {key for key in self._readable if key[1] != shard.index}

    def _require_done(self, name: str, start: int, stop: int) -> None:
        wanted = {
            (name, i) for i in range(start // self.shard_size, -(-stop // self.shard_size) if stop > start else 0)
        }
        unknown = {index for _, index in wanted - self._readable}
        if not unknown:
            return
        missing = unknown - self._done()
        # zarr reads a lost object as fill values, without an error.
        missing |= {index for index in unknown - missing if not exists(self._object_uri(name, index))}
        if missing:
            raise StoreIncomplete(
                f"slices {start} to {stop} of {name!r} in {self.uri} are not all there: shards {_ranges(missing)} are "
                "missing; run the command that makes the store again, it resumes"
            )
        self._readable |= wanted

    def _verify_shard(self, shard: Shard) -> list[str]:
        marker = self._read_marker(shard.index)
        problems = (self._verify_array(shard, name, marker["sha256"].get(name)) for name in self.layouts)
        return [problem for problem in problems if problem]

    def _verify_array(self, shard: Shard, name: str, expected: str | None) -> str | None:
        where = f"shard {shard.index} (slices {shard.start} to {shard.stop}) of {name!r} in {self.uri}"
        if not exists(self._object_uri(name, shard.index)):
            return f"{where} is marked as done but its file is gone: discard it and make it again"
        try:
            found = _sha256(np.asarray(self._array(name)[shard.start : shard.stop]))
        except (ValueError, RuntimeError, OSError) as error:
            return f"{where} cannot be read ({error}): discard it and make it again"
        if found != expected:
            return f"{where} does not hold what was written (sha256 differs): discard it and make it again"
        return None

    def _what_is_missing(self) -> str:
        missing, total = {shard.index for shard in self.pending()}, len(self.plan())
        if not missing:
            return f"{self.uri} has all its {total} shards but was not finished: run the command that makes it again"
        return (
            f"{self.uri} is not complete: {len(missing)} of {total} shards are missing ({_ranges(missing)}); "
            "run the command that makes it again, it resumes with these"
        )


def _reopen(kind: type[ShardedStore], uri: str) -> ShardedStore:
    return kind.open(uri, finished=False)


def _plan_json(n: int, shard_size: int, arrays: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]) -> dict[str, Any]:
    if n < 1 or shard_size < 1:
        raise ValueError(
            f"a store needs at least one slice and one slice per shard, got n={n}, shard_size={shard_size}"
        )
    layouts = {name: {"shape": list(shape), "dtype": np.dtype(dtype).name} for name, (shape, dtype) in arrays.items()}
    plan = {"format": FORMAT, "n": n, "shard_size": shard_size, "arrays": layouts, "attrs": dict(attrs)}
    return dict(json.loads(json.dumps(plan, allow_nan=False)))


def _refuse_other_plan(uri: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if not differing:
        return
    shown = "; ".join(f"{key}: stored {_short(found.get(key))}, wanted {_short(wanted.get(key))}" for key in differing)
    raise StoreMismatch(f"{uri} holds a store with another plan ({shown}): choose another place, or remove it")


def _short(value: Json) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else text[:197] + "..."


def _fill_value(dtype: str) -> complex | float | int:
    return {"f": float("nan"), "c": complex("nan+nanj")}.get(np.dtype(dtype).kind, 0)


def _dimension_names(ndim: int) -> list[str]:
    image = ["row", "column"][-ndim:] if ndim >= 2 else ["entry"] * ndim
    return ["slice", *(f"axis_{i}" for i in range(1, ndim - 1)), *image]


def _fit(name: str, values: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if values.shape != shape:
        raise ValueError(f"array {name!r} must have shape {shape} to fill the whole shard, got {values.shape}")
    if not np.can_cast(values.dtype, dtype, casting="same_kind"):
        raise ValueError(f"array {name!r} must be {dtype}, got {values.dtype}")
    return np.ascontiguousarray(values, dtype=dtype)


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _marker(shard: Shard, arrays: Mapping[str, np.ndarray], record: Mapping[str, Json]) -> dict[str, Json]:
    return {
        "start": shard.start,
        "stop": shard.stop,
        "sha256": {name: _sha256(values) for name, values in arrays.items()},
        "record": dict(record),
        "versions": _versions(),
    }


def _versions() -> dict[str, Json]:
    return {"scoreinv": scoreinv.__version__, "numpy": np.__version__, "zarr": zarr.__version__}


def _ranges(indices: set[int]) -> str:
    """``{0, 2, 3, 4}`` as "0, 2-4"."""
    ordered = sorted(indices)
    starts = [i for i in ordered if i - 1 not in indices]
    stops = [i for i in ordered if i + 1 not in indices]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, stops, strict=True))
