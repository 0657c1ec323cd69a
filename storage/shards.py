"""The one place where arrays are written: stores that are filled shard by shard and can be resumed.

A shard is one object that holds a run of slices. zarr does no locking, so two writers in one shard
lose data silently; therefore a shard is written whole, and only then is its marker ``done/<index>.json``
put, with the sha256 of what was written. What is left to do is the plan minus the markers. An
interruption leaves a shard without a marker, which is written again.

One process fills a store, the one that holds its lease, and it alone finishes the store; an owner that was outlived
may write a last shard. On a file system one process at a time puts a shard, and a shard that is done is left as it
is; everywhere objects and markers are replaced, never removed first, so that a reader sees a shard or none. What is
damaged is found by ``verify``, and quickly by ``create``, and is pending again.

Layout of a store::

    plan.json          n, shard_size, layout of the arrays, attributes: put first, decides what may be written here
    zarr.json, <name>/ one zarr 3 array per name: chunk = one slice, shard = shard_size slices
    done/<index>.json  one marker per finished shard
    manifest.json      what the run says about itself, put when every shard is done
    _SUCCESS           put last
    lease/             who filled it, and who does; see ``storage.lease``

Each JSON file but zarr's holds a digest of itself. The group's zarr.json holds the plan too, in case that gets lost.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from scoreinv.spec import Json, digest_of
from storage.encoding import ArrayLayout as ArrayLayout
from storage.encoding import Files, array_files, decoded, encoded, metadata_files, object_key, opened
from storage.errors import StoreError, StoreIncomplete, StoreNotFound, full_disk_explained
from storage.lease import Lease, refuse_held
from storage.markers import Markers, sha256_of
from storage.plans import Shard as Shard
from storage.plans import (
    attributes,
    placed,
    plan_json,
    ranges,
    read_if_whole,
    read_plan,
    reference_of,
    shards_between,
    spans,
    versions_in,
)
from storage.uri import (
    delete,
    exists,
    is_local,
    join,
    list_names,
    local_path,
    locked,
    read_bytes,
    read_or_none,
    read_sealed,
    remove_unfinished,
    sealed,
    size_of,
    sizes_below,
    write_bytes,
    write_if_other,
    write_json,
)

CHECKED_AT_START = 2**29
"""Bytes: every byte of a local store up to this size is read by ``create``, in about a second."""


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
        self.whole_plan = dict(plan)
        self._plan_digest = digest_of(self.whole_plan)
        self._markers = Markers(uri, self._plan_digest)
        self.lease: Lease | None = None
        """Of this process, if it fills the store; it does not travel."""

    @classmethod
    def create(
        cls, uri: str, *, n: int, shard_size: int, arrays: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]
    ) -> Self:
        """The store with this plan, made if it is not there yet, else reopened to be resumed.

        What is damaged becomes pending again, as far as it is quickly seen: all of it in a local store that is not
        large, elsewhere what is missing or empty.

        Raises:
            StoreMismatch: if there is a store with another plan in this place.
        """
        plan = placed(uri, plan_json(n, shard_size, arrays, attrs))
        store = cls(uri, plan)
        sizes, reads = store._sizes()
        store._describe(sizes)
        store._discard_damaged(store._quickly_seen(sizes, reads=reads), reads=reads)
        return store

    @classmethod
    def open(cls, uri: str, *, finished: bool = True) -> Self:
        """The store at a URI; with ``finished=False`` one that is still being filled will do.

        Raises:
            StoreNotFound: if there is none.
            StoreIncomplete: if it is not finished; the message says which shards are missing.
            StoreMismatch: if it was made by an earlier version.
            StoreError: if its plan is damaged.
        """
        try:
            store = cls(uri, read_plan(uri))
        except StoreNotFound as error:
            missing = f"there is no store at {uri} (no plan.json there): run the command that makes it first"
            raise StoreNotFound(missing) from error
        if finished:
            store.require_finished()
        return store

    def require_finished(self) -> None:
        """Refuses a store that is still being filled.

        Raises:
            StoreIncomplete: the message says which shards are missing.
        """
        if not self.is_finished():
            raise StoreIncomplete(self.what_is_missing())

    def remembering(self) -> Self:
        """The same store, which reads a marker only once: for as long as one shard is worked on, not longer."""
        store = type(self)(self.uri, self.whole_plan)
        store._markers = Markers(self.uri, self._plan_digest, keeps=True)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker may run in another folder.
        uri = str(local_path(self.uri).absolute()) if is_local(self.uri) else self.uri
        return (_reopen, (type(self), uri))

    def __len__(self) -> int:
        return self.n

    @property
    def name(self) -> str:
        """By which it is known within its folder: the digest of a reference."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1]

    def origin(self, shard: Shard) -> str:
        """The name of the store that holds a shard: this one."""
        return self.name

    def shard_at(self, place: int) -> Shard:
        """The shard that holds a slice."""
        return self._shards_of(place, place + 1)[0]

    def plan(self) -> list[Shard]:
        """All shards, in order; the last one may be shorter."""
        return self._shards_of(0, self.n)

    def pending(self) -> list[Shard]:
        """The shards that have no done marker yet, in order."""
        names = set(list_names(join(self.uri, "done")))
        return [shard for shard in self.plan() if f"{shard.index}.json" not in names]

    def write(self, shard: Shard, arrays: Mapping[str, np.ndarray], *, record: Mapping[str, Json]) -> None:
        """Writes one whole shard of every array, then its marker; a shard that is done is left as it is.

        Args:
            arrays: one array of shape ``(stop - start, *layout.shape)`` per name; types are widened or
                narrowed within their kind (float64 to float32), never across (complex to float).
            record: what to remember about this shard, returned by ``records``.

        Raises:
            ValueError: if this is not exactly one shard of the plan, or an array does not fit its layout.
            StoreFull: if the disk is full; the shard stays pending.
        """
        ready = self._check_shard(shard, arrays)
        objects = {
            name: encoded(self._array_files, self._object_key(name, shard), shard.start, values)
            for name, values in ready.items()
        }
        marker = self._markers.new(shard, ready, objects, record)
        with full_disk_explained(self.uri), locked(self.uri):
            # Another process may have made it; with another batch size its last bits may differ.
            if not self._problems_of(shard, reads=False):
                return
            for name, content in objects.items():
                write_bytes(join(self.uri, self._object_key(name, shard)), content)
            write_json(self._markers.uri_of(shard), sealed(marker))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Slices ``start`` to ``stop`` of an array; errors as ``read_places``."""
        return self.read_places(name, range(start, stop))

    def read_places(self, name: str, places: Sequence[int]) -> np.ndarray:
        """Slices of an array by their places, in the given order; each is checked against the marker of its shard.

        Neighbours are read at once, and a marker once for all its slices.

        Raises:
            KeyError: if there is no array of this name.
            IndexError: if a place is not within 0 and n.
            StoreIncomplete: if one is in a shard that is not done.
            StoreError: if it is not what was written.
        """
        if name not in self.layouts:
            raise KeyError(f"{self.uri} has no array {name!r}, only {sorted(self.layouts)}")
        self._refuse_strange(places)
        parts = spans(places, n=self.n, shard_size=self.shard_size)
        markers = dict(zip(parts, self._markers.read_all(name, parts), strict=True))
        expected = {
            shard.start + i: (shard, sha256)
            for shard, marker in markers.items()
            for i, sha256 in enumerate(marker["sha256"][name])
        }
        values = np.empty((len(places), *self.layouts[name].shape), self.layouts[name].dtype)
        for shard, wanted in parts.items():
            size = int(markers[shard]["objects"][name]["size"])
            found = self._spans(name, shard, size, [(start, stop) for _, start, stop in wanted])
            for (at, start, stop), slices in zip(wanted, found, strict=True):
                values[at : at + stop - start] = slices
        for place, digest in zip(places, sha256_of(values), strict=True):
            shard, sha256 = expected[place]
            # zarr reads a lost or an empty object as fill values, without an error.
            if digest != sha256:
                raise StoreError(f"{self._damage(shard, name)}; {self._advice()}")
        return values

    def records(self) -> list[dict[str, Any]]:
        """The records of all shards, in order.

        Raises:
            StoreIncomplete: if a shard is not done.
        """
        return [dict(marker["record"]) for marker in self._markers.read_all("", self.plan())]

    def record(self, index: int) -> dict[str, Any]:
        """The record of one shard that is done; errors as ``records``."""
        (marker,) = self._markers.read_all("", [self.plan()[index]])
        return dict(marker["record"])

    def finish(self, *, manifest: Mapping[str, Json] | None = None) -> None:
        """Marks the store as finished; what it says about itself goes to manifest.json.

        Raises:
            StoreIncomplete: if shards are missing.
            StoreHeld: if another process fills it.
            LeaseLost: if another process has taken over the lease with which this one filled it.
        """
        with full_disk_explained(self.uri), locked(self.uri):
            if self.pending():
                raise StoreIncomplete(self.what_is_missing())
            markers = self._markers.read_all("", self.plan())
            digest = digest_of(*(marker["sha256"] for marker in markers))
            content: dict[str, Json] = {"n": self.n, "plan": self._plan_digest, "content_digest": digest}
            content["versions"] = versions_in(markers)
            self.lease.require() if self.lease else refuse_held(self.uri)
            remove_unfinished(self.uri)
            write_json(join(self.uri, "manifest.json"), sealed({**content, "manifest": dict(manifest or {})}))
            write_json(join(self.uri, "_SUCCESS"), sealed({"content_digest": digest}))

    def is_finished(self) -> bool:
        """Whether ``finish`` has been called and no shard was found damaged since."""
        return read_or_none(join(self.uri, "_SUCCESS")) is not None

    def is_whole(self) -> bool:
        """Whether it is finished and, as far as ``create`` would see, undamaged; nothing is written."""
        if not self.is_finished():
            return False
        files, (sizes, reads) = self._array_files | self._group_file, self._sizes()
        if any(read_or_none(join(self.uri, key)) != content for key, content in files.items()):
            return False
        return not list(self._quickly_seen(sizes, reads=reads)) and not self._problems_of_the_end(reads=reads)

    def manifest(self) -> dict[str, Any]:
        """What ``finish`` was given.

        Raises:
            StoreError: if it is damaged.
        """
        try:
            return dict(read_sealed(join(self.uri, "manifest.json"))["manifest"])
        except StoreError as error:
            raise type(error)(f"{error}: {self._advice()}") from error

    def content_digest(self) -> str:
        """12 hexadecimal digits that depend on the values of every shard and on nothing else; errors as ``records``."""
        return digest_of(*(marker["sha256"] for marker in self._markers.read_all("", self.plan())))

    def verify(self) -> list[str]:
        """What is damaged, as sentences; every byte is read. Shards that are yet to be made are no damage."""
        files = self._array_files | self._group_file
        described = [
            f"{join(self.uri, key)} does not describe what is in the store"
            for key, content in files.items()
            if read_or_none(join(self.uri, key)) != content
        ]
        shards = [problem for shard in self._done() for problem in self._problems_of(shard, reads=True)]
        return [*described, *shards, *self._problems_of_the_end(reads=True)]

    def repair(self) -> None:
        """Makes everything that is damaged pending again, or puts it anew; what is whole stays."""
        self._describe(None)
        self._discard_damaged(self._done(), reads=True)

    def what_is_missing(self) -> str:
        """Why the store is not finished, and what to do."""
        missing, total = {shard.index for shard in self.pending()}, len(self.plan())
        if not missing:
            how = f"`scoreinv repair {reference_of(self.uri)}` finishes it, as does the command that makes it"
            return f"{self.uri} has all its {total} shards but was not finished: {how}"
        return (
            f"{self.uri} is not complete: {len(missing)} of {total} shards are missing ({ranges(missing)}); "
            "run the command that makes it again, it resumes with these"
        )

    # ---- what a shard is, and whether it is whole ----------------------------------------------------------------

    def _shards_of(self, start: int, stop: int) -> list[Shard]:
        return shards_between(start, stop, n=self.n, shard_size=self.shard_size)

    def _done(self) -> list[Shard]:
        pending = set(self.pending())
        return [shard for shard in self.plan() if shard not in pending]

    def _sizes(self) -> tuple[dict[str, int], bool]:
        """Bytes of every file, and whether they are so few that all are read."""
        sizes = sizes_below(self.uri)
        return sizes, is_local(self.uri) and sum(sizes.values()) <= CHECKED_AT_START

    def _quickly_seen(self, sizes: Mapping[str, int], *, reads: bool) -> Iterator[Shard]:
        """The shards that are done but damaged, by the sizes of the store's files and, if need be, by every byte."""
        for shard in (shard for shard in self.plan() if f"done/{shard.index}.json" in sizes):
            names = [f"done/{shard.index}.json", *(self._object_key(name, shard) for name in self.layouts)]
            if not all(sizes.get(name) for name in names) or (reads and self._problems_of(shard, reads=True)):
                yield shard

    def _describe(self, sizes: Mapping[str, int] | None) -> None:
        """Puts what describes the arrays, where it is another; in a bucket, if sizes are given, by its size alone."""
        for key, content in (self._array_files | self._group_file).items():
            if sizes is None or is_local(self.uri):
                write_if_other(join(self.uri, key), content)
            elif sizes.get(key) != len(content):
                write_bytes(join(self.uri, key), content)

    def _discard_damaged(self, suspects: Iterable[Shard], *, reads: bool) -> None:
        for shard in suspects:
            with locked(self.uri):
                # Another process may have made it again by now.
                if self._problems_of(shard, reads=True):
                    delete(join(self.uri, "_SUCCESS"))
                    delete(self._markers.uri_of(shard))
        if self._problems_of_the_end(reads=reads):
            with locked(self.uri):
                if self._problems_of_the_end(reads=reads):
                    delete(join(self.uri, "_SUCCESS"))

    def _problems_of(self, shard: Shard, *, reads: bool) -> list[str]:
        """What is wrong with a shard that is marked as done, by its bytes or else by their number."""
        try:
            marker = self._markers.read(shard)
        except StoreError as error:
            return [str(error)]
        problems = (self._problem_of_object(shard, name, marker, reads=reads) for name in self.layouts)
        return [problem for problem in problems if problem]

    def _problem_of_object(self, shard: Shard, name: str, marker: Mapping[str, Any], *, reads: bool) -> str:
        uri, expected = join(self.uri, self._object_key(name, shard)), marker["objects"][name]
        size = size_of(uri)
        if size is None:
            return f"{self._where(shard, name)} is marked as done but its file is gone"
        if size != expected["size"]:
            return f"{self._where(shard, name)} is damaged: its file has {size} bytes of {expected['size']}"
        if reads and hashlib.sha256(read_bytes(uri)).hexdigest() != expected["sha256"]:
            return f"{self._where(shard, name)} is damaged: its file does not hold what was written"
        return ""

    def _problems_of_the_end(self, *, reads: bool) -> list[str]:
        """What is wrong with a store that is marked as finished; by its markers too if they are read."""
        if not self.is_finished():
            return []
        if missing := {shard.index for shard in self.pending()}:
            return [f"{self.uri} is marked as finished, but shards {ranges(missing)} have no marker in done/"]
        ends = [read_if_whole(join(self.uri, name)) for name in ("manifest.json", "_SUCCESS")]
        problems = [
            f"{join(self.uri, name)} is {'damaged' if exists(join(self.uri, name)) else 'gone'}"
            for name, content in zip(("manifest.json", "_SUCCESS"), ends, strict=True)
            if content is None
        ]
        if not reads:
            return problems
        try:
            digest = self.content_digest()
        except StoreError:
            return problems  # which marker is damaged is said of its shard
        if any(content is not None and content.get("content_digest") != digest for content in ends):
            problems.append(f"{self.uri} holds other shards than those it was finished with")
        return problems

    def _where(self, shard: Shard, name: str) -> str:
        return f"shard {shard.index} (slices {shard.start} to {shard.stop}) of {name!r} in {self.uri}"

    def _advice(self) -> str:
        return f"`scoreinv repair {reference_of(self.uri)}` makes it again"

    def _damage(self, shard: Shard, name: str) -> str:
        problems = [one for one in self._problems_of(shard, reads=True) if repr(name) in one]
        return problems[0] if problems else f"{self._where(shard, name)} does not hold what was written"

    def _check_shard(self, shard: Shard, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._refuse_foreign(shard)
        if set(arrays) != set(self.layouts):
            raise ValueError(f"{self.uri} needs arrays {sorted(self.layouts)}, got {sorted(arrays)}")
        return {
            name: _fit(name, np.asarray(arrays[name]), (shard.stop - shard.start, *layout.shape), layout.dtype)
            for name, layout in self.layouts.items()
        }

    def _refuse_strange(self, places: Sequence[int]) -> None:
        if strange := [place for place in places if not 0 <= place < self.n]:
            raise IndexError(f"slice {strange[0]} was asked for, {self.uri} has 0 to {self.n - 1}")

    def _refuse_foreign(self, shard: Shard) -> None:
        plan = self.plan()
        if not 0 <= shard.index < len(plan) or plan[shard.index] != shard:
            raise ValueError(
                f"{shard} is not a shard of {self.uri} ({self.n} slices in shards of {self.shard_size}): "
                "a shard is written whole, take it from plan() or pending()"
            )

    # ---- files -----------------------------------------------------------------------------------------------------

    @cached_property
    def _array_files(self) -> Files:
        return array_files(self.n, self.shard_size, tuple(self.layouts.items()))

    @property
    def _group_file(self) -> Files:
        return metadata_files(self.n, self.shard_size, {}, attributes(self.whole_plan))

    def _spans(self, name: str, shard: Shard, size: int, places: list[tuple[int, int]]) -> Iterator[np.ndarray]:
        """Slices from and up to these places, which lie in this shard, whose object has this size."""
        uri, layout, begin = join(self.uri, self._object_key(name, shard)), self.layouts[name], shard.start
        first, last = min(start for start, _ in places) - begin, max(stop for _, stop in places) - begin
        try:
            with opened(uri, size, self.shard_size, first, last) as file:
                for start, stop in places:
                    yield decoded(file, layout, self.shard_size, start - begin, stop - begin)
        except (StoreNotFound, IsADirectoryError) as error:
            raise StoreError(f"{self._damage(shard, name)}; {self._advice()}") from error
        except (ValueError, RuntimeError) as error:
            where = f"slices {start} to {stop} of {name!r} in {self.uri}"
            raise StoreError(f"{where} are damaged ({error}); {self._advice()}") from error

    def _object_key(self, name: str, shard: Shard) -> str:
        return object_key(name, self.layouts[name], shard.index)


def _reopen(kind: type[ShardedStore], uri: str) -> ShardedStore:
    return kind.open(uri, finished=False)


def _fit(name: str, values: np.ndarray, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if values.shape != shape:
        raise ValueError(f"array {name!r} must have shape {shape} to fill the whole shard, got {values.shape}")
    if not np.can_cast(values.dtype, dtype, casting="same_kind"):
        raise ValueError(f"array {name!r} must be {dtype}, got {values.dtype}")
    return np.ascontiguousarray(values, dtype=dtype)
