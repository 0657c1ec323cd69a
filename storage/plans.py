"""What a store is planned to hold, in which shards: plan.json, and its copy in zarr.json in case that is lost."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from scoreinv.spec import Json, digest_of, holds_options
from storage.encoding import ArrayLayout
from storage.errors import StoreError, StoreMismatch
from storage.uri import (
    create_bytes,
    exists,
    join,
    json_bytes,
    list_names,
    read_json,
    read_sealed,
    sealed,
    write_json,
)

FORMAT = "scoreinv-shards-2"

_KEYS = {"n", "shard_size", "arrays", "attrs"}

COPY = "scoreinv_plan"
"""The attribute of the zarr group that holds the plan but its attributes, which are attributes there."""


class Shard(NamedTuple):
    """Slices ``start`` (included) to ``stop`` (excluded)."""

    index: int  # type: ignore[assignment]  # a tuple has a method of this name, which nobody needs here
    start: int
    stop: int


def shards_between(start: int, stop: int, *, n: int, shard_size: int) -> list[Shard]:
    """The shards that hold slices ``start`` to ``stop`` of n, in order; the very last one may be shorter."""
    indices = range(start // shard_size, -(-stop // shard_size) if stop > start else 0)
    return [Shard(i, i * shard_size, min((i + 1) * shard_size, n)) for i in indices]


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Where, in a list of places, neighbours begin and end: ``[4, 5, 6, 2]`` as [(0, 3), (3, 4)]."""
    cuts = [i for i in range(1, len(places)) if places[i] != places[i - 1] + 1]
    return list(pairwise([0, *cuts, len(places)])) if places else []


def spans(places: Sequence[int], *, n: int, shard_size: int) -> dict[Shard, list[tuple[int, int, int]]]:
    """The neighbours in a list of places by shard: where each begins in the list, its first place, the end."""
    found: dict[Shard, list[tuple[int, int, int]]] = {}
    for first, last in runs(places):
        for shard in shards_between(places[first], places[last - 1] + 1, n=n, shard_size=shard_size):
            start, stop = max(shard.start, places[first]), min(shard.stop, places[last - 1] + 1)
            found.setdefault(shard, []).append((first + start - places[first], start, stop))
    return found


def ranges(indices: set[int]) -> str:
    """``{0, 2, 3, 4}`` as "0, 2-4"."""
    ordered = sorted(indices)
    shown = [(ordered[first], ordered[last - 1]) for first, last in runs(ordered)]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in shown)


def versions_in(markers: Iterable[Mapping[str, Any]]) -> dict[str, Json]:
    """By which versions of each package shards were made: several, if a store was begun before an upgrade."""
    found: dict[str, set[str]] = {}
    for marker in markers:
        for name, version in marker["versions"].items():
            found.setdefault(name, set()).add(str(version))
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def plan_json(n: int, shard_size: int, arrays: Mapping[str, ArrayLayout], attrs: Mapping[str, Json]) -> dict[str, Any]:
    """A plan as JSON holds it.

    Raises:
        ValueError: if it is a plan for nothing.
    """
    if n < 1 or shard_size < 1:
        raise ValueError(
            f"a store needs at least one slice and one slice per shard, got n={n}, shard_size={shard_size}"
        )
    layouts = {name: {"shape": list(shape), "dtype": np.dtype(dtype).name} for name, (shape, dtype) in arrays.items()}
    plan = {"format": FORMAT, "n": n, "shard_size": shard_size, "arrays": layouts, "attrs": dict(attrs)}
    # In the order of its keys, as it is read again.
    return dict(json.loads(json.dumps(plan, sort_keys=True, allow_nan=False)))


def attributes(plan: Mapping[str, Any]) -> dict[str, Json]:
    """What the zarr group of a store with this plan holds as its attributes: those of the plan, and the rest of it."""
    rest = {key: value for key, value in plan.items() if key != "attrs"}
    return {**plan["attrs"], COPY: {**rest, "digest": digest_of(dict(plan))}}


def placed(uri: str, plan: dict[str, Any]) -> dict[str, Any]:
    """The plan of the store at a URI, put there if there is none.

    Where nothing is to be done nothing is written: the workspace may be one to read from.

    Raises:
        StoreMismatch: if there is a store with another plan in this place.
    """
    plan_uri = join(uri, "plan.json")
    found = plan_if_whole(plan_uri)
    if found is None and not create_bytes(plan_uri, json_bytes(sealed(plan))):
        found = plan_if_whole(plan_uri)
        if found is None:
            # Damaged, or of an earlier version, and then no shard there is one of this version either.
            write_json(plan_uri, sealed(plan))
    if found not in (None, plan):
        # It may have been exchanged with another store's.
        if plan == _copy_of_plan(uri) or digest_of(plan) in _noted(uri):
            write_json(plan_uri, sealed(plan))
        else:
            restore_plan(uri)
        found = plan_if_whole(plan_uri)
    if found is None:
        return plan
    refuse_other_plan(uri, found, plan)
    # Its own: an earlier version kept more in it, and the markers name it.
    return found


def refuse_other_plan(uri: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses a store that was made for something else; attributes that only an earlier version kept do not count.

    Nor do options of a recipe that came later: the place of a store is a digest of all options that are not at their
    default, so what an earlier version did not know is at its default here.

    Raises:
        StoreMismatch: saying in which keys the plans differ.
    """
    stored, needed = _flat(found), _flat(wanted)
    differing = sorted(key for key in needed if not holds_options(stored.get(key), needed[key]))
    if not differing:
        return
    shown = "; ".join(f"{key}: stored {_short(stored.get(key))}, wanted {_short(needed[key])}" for key in differing)
    raise StoreMismatch(f"{uri} holds a store with another plan ({shown}): choose another place, or remove it")


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in plan.items() if key != "attrs"}
    return rest | {f"attrs.{key}": value for key, value in plan["attrs"].items()}


def _short(value: Json) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else text[:197] + "..."


def restore_plan(uri: str) -> bool:
    """Puts a plan that is lost, damaged or another store's anew from its copy; whether there is a right one now."""
    if not plan_problem(uri):
        return True
    copy, noted = _copy_of_plan(uri), _noted(uri)
    if copy is None or (noted and digest_of(copy) not in noted):
        return False
    write_json(join(uri, "plan.json"), sealed(copy))
    return True


def plan_problem(uri: str) -> str:
    """What is wrong with a plan: it is gone or damaged, or the shards were made by another one."""
    plan_uri, copy = join(uri, "plan.json"), _copy_of_plan(uri)
    found = plan_if_whole(plan_uri)
    if found is None:
        return f"{plan_uri} is {'damaged' if exists(plan_uri) else 'gone'}"
    if found == copy:
        return ""
    noted = _noted(uri)
    is_wrong = digest_of(found) not in noted and (bool(noted) if copy is None else digest_of(copy) in noted)
    return f"{plan_uri} is another store's" if is_wrong else ""


def _noted(uri: str) -> set[str]:
    """The digests of plans that markers and manifest name: more than one if one of these was exchanged too."""
    # The markers of a joined store lie in its parts.
    names = [*(join("done", name) for name in list_names(join(uri, "done"))), "manifest.json"]
    notes = (read_if_whole(join(uri, name)) for name in names)
    return {str(note["plan"]) for note in notes if note and "plan" in note}


def _copy_of_plan(uri: str) -> dict[str, Any] | None:
    try:
        attrs = dict(read_json(join(uri, "zarr.json"))["attributes"])
        rest = dict(attrs.pop(COPY))
        digest, plan = rest.pop("digest"), {**rest, "attrs": attrs}
    except (StoreError, KeyError, TypeError, ValueError):
        return None
    return plan if digest_of(plan) == digest else None


def plan_if_whole(plan_uri: str) -> dict[str, Any] | None:
    """The plan in a file; None if there is none, or the file is damaged or another kind of file."""
    found = read_if_whole(plan_uri)
    return found if found is not None and found.keys() >= _KEYS else None


def read_plan(uri: str) -> dict[str, Any]:
    """The plan of the store at a URI.

    Raises:
        StoreMismatch: if it was made by another version.
        StoreError: if it is damaged.
    """
    plan_uri = join(uri, "plan.json")
    try:
        found = read_sealed(plan_uri)
        if not found.keys() >= _KEYS:
            raise StoreError(f"{plan_uri} is damaged: it holds something else")
        return found
    except StoreError as error:
        kind = _format_of(plan_uri)
        if kind not in (None, FORMAT):
            raise StoreMismatch(
                f"{uri} has format {kind!r}, this version reads {FORMAT!r}: run the command that makes it again"
            ) from error
        raise type(error)(
            f"{error}; `scoreinv repair {reference_of(uri)}` mends it, or the command that made it"
        ) from error


def _format_of(plan_uri: str) -> Json:
    try:
        found = read_json(plan_uri)
    except StoreError:
        return None
    return found.get("format") if isinstance(found, dict) else None


def reference_of(uri: str) -> str:
    """How the command names a result, as measurements/0a1b2c3d4e5f: the last two parts of where it lies."""
    return "/".join(uri.rstrip("/").split("/")[-2:])


def read_if_whole(uri: str) -> dict[str, Any] | None:
    """A sealed mapping; None if there is none or it is damaged."""
    try:
        return read_sealed(uri)
    except StoreError:
        return None
