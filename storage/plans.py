"""What a store is planned to hold: plan.json, and its copy in zarr.json in case that is lost."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from scoreinv.spec import Json, digest_of
from storage.encoding import ArrayLayout
from storage.errors import StoreError, StoreMismatch
from storage.uri import join, read_json, read_sealed, sealed, write_json

FORMAT = "scoreinv-shards-2"

COPY = "scoreinv_plan"
"""The attribute of the zarr group that holds the plan but its attributes, which are attributes there."""


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


def refuse_other_plan(uri: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuses a store that was made for something else.

    Raises:
        StoreMismatch: saying in which keys the plans differ.
    """
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    if not differing:
        return
    shown = "; ".join(f"{key}: stored {_short(found.get(key))}, wanted {_short(wanted.get(key))}" for key in differing)
    raise StoreMismatch(f"{uri} holds a store with another plan ({shown}): choose another place, or remove it")


def _short(value: Json) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else text[:197] + "..."


def restore_plan(uri: str) -> bool:
    """Puts a plan that is lost or damaged anew from its copy; whether there is a whole one now."""
    if read_if_whole(join(uri, "plan.json")) is not None:
        return True
    try:
        attrs = dict(read_json(join(uri, "zarr.json"))["attributes"])
        rest = dict(attrs.pop(COPY))
        digest, plan = rest.pop("digest"), {**rest, "attrs": attrs}
        if digest_of(plan) != digest:
            return False
    except (StoreError, KeyError, TypeError, ValueError):
        return False
    write_json(join(uri, "plan.json"), sealed(plan))
    return True


def read_plan(uri: str) -> dict[str, Any]:
    """The plan of the store at a URI.

    Raises:
        StoreMismatch: if it was made by another version.
        StoreError: if it is damaged.
    """
    plan_uri = join(uri, "plan.json")
    try:
        return read_sealed(plan_uri)
    except StoreError as error:
        found = _format_of(plan_uri)
        if found not in (None, FORMAT):
            raise StoreMismatch(
                f"{uri} has format {found!r}, this version reads {FORMAT!r}: run the command that makes it again"
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
