"""Markers: ``done/<index>.json`` says that a shard is done, what its objects and slices are, and what was noted."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import zarr

import scoreinv
from scoreinv.spec import Json
from storage.errors import StoreError, StoreIncomplete, StoreNotFound
from storage.plans import Shard, ranges, reference_of
from storage.uri import join, read_many, unsealed


class Markers:
    """The markers of one store, read anew each time unless they are to be kept."""

    def __init__(self, uri: str, plan_digest: str, *, keeps: bool = False) -> None:
        self.uri = uri
        self.plan_digest = plan_digest
        self._kept: dict[int, dict[str, Any]] | None = {} if keeps else None

    def uri_of(self, shard: Shard) -> str:
        """Where the marker of a shard lies."""
        return join(self.uri, "done", f"{shard.index}.json")

    def read(self, shard: Shard) -> dict[str, Any]:
        """The marker of a shard, as it is now.

        Raises:
            StoreNotFound: if there is none.
            StoreError: if it is damaged, or another shard's.
        """
        (content,) = read_many([self.uri_of(shard)])
        return self._parsed(shard, content)

    def read_all(self, name: str, shards: Iterable[Shard]) -> list[dict[str, Any]]:
        """The markers of shards, in order; ``name`` is the array that is wanted, empty for none.

        Raises:
            StoreIncomplete: if one is missing.
            StoreError: if one is damaged.
        """
        wanted = list(shards)
        kept = self._kept or {}
        unread = [shard for shard in wanted if shard.index not in kept]
        found, missing = dict(kept), set[int]()
        for shard, content in zip(unread, read_many([self.uri_of(shard) for shard in unread]), strict=True):
            try:
                found[shard.index] = self._parsed(shard, content)
            except StoreNotFound:
                missing.add(shard.index)
            except StoreError as error:
                raise StoreError(f"{error}; `scoreinv repair {reference_of(self.uri)}` makes it again") from error
        if missing:
            what = f"{name!r} in {self.uri} is" if name else f"{self.uri} is"
            raise StoreIncomplete(
                f"{what} not all there: shards {ranges(missing)} are missing; run the command that makes the store "
                "again, it resumes"
            )
        if self._kept is not None:
            self._kept |= found
        return [found[shard.index] for shard in wanted]

    def _parsed(self, shard: Shard, content: bytes | None) -> dict[str, Any]:
        uri = self.uri_of(shard)
        if content is None:
            raise StoreNotFound(f"there is no file {uri}")
        marker = unsealed(uri, content)
        if (marker["plan"], marker["start"], marker["stop"]) != (self.plan_digest, shard.start, shard.stop):
            raise StoreError(f"{uri} is the marker of another shard")
        return marker

    def new(
        self,
        shard: Shard,
        arrays: Mapping[str, np.ndarray],
        objects: Mapping[str, bytes],
        record: Mapping[str, Json],
    ) -> dict[str, Json]:
        """The marker of a shard with these slices in these objects."""
        return {
            "plan": self.plan_digest,
            "start": shard.start,
            "stop": shard.stop,
            # Of the values of each slice, and of the files, which are quicker to check.
            "sha256": {name: [*sha256_of(values)] for name, values in arrays.items()},
            "objects": {
                name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in objects.items()
            },
            "record": dict(record),
            "versions": versions(),
        }


def sha256_of(slices: np.ndarray) -> list[str]:
    """16 hexadecimal digits for each slice."""
    return [hashlib.sha256(np.ascontiguousarray(one).data).hexdigest()[:16] for one in slices]


def versions() -> dict[str, Json]:
    """What wrote a store."""
    return {"scoreinv": scoreinv.__version__, "numpy": np.__version__, "zarr": zarr.__version__}
