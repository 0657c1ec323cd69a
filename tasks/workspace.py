"""Where results lie: <workspace>/<stage>/<digest>, the references that name them, and who may read them."""

import os
import stat
import tempfile
from collections.abc import Sequence
from typing import Literal

from scoreinv.contract import Contract
from scoreinv.shipped import calibration_names
from storage.datasets import DatasetStore
from storage.errors import StoreError, StoreNotFound, full_disk_explained
from storage.identities import Hasher, names_in
from storage.joined import JoinedStore
from storage.models import read_contract, shipped
from storage.shards import ShardedStore
from storage.uri import exists, is_local, join, list_names, local_path

_TRIED_BYTES = 1 << 16
"""A disk that is full takes an empty file."""

StageName = Literal[
    "datasets",
    "measurements",
    "trainings",
    "priors",
    "reconstructions",
    "calibrations",
    "scores",
    "reports",
    "tuning",
    "plans",
]


def open_workspace(workspace: str) -> None:
    """Make the workspace if it is not there, and keep everybody from reading what this process writes from now on.

    Runs, listings and recipes may name people. A new workspace is for its owner alone; one whose folder the
    group may write (``chmod g+ws``) is shared with that group.

    Raises:
        StoreError: if it cannot be written; says why.
    """
    is_shared = False
    if is_local(workspace):
        require_folder(workspace, "the workspace", mode=0o700)
        is_shared = bool(local_path(workspace).stat().st_mode & stat.S_IWGRP)
    os.umask(0o007 if is_shared else 0o077)


def subjects_of(workspace: str, datasets: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """People whom a recipe names as their source does, as the data sets at these URIs name them."""
    hasher = Hasher(workspace)
    if not names or not hasher.was_used():
        return tuple(names)
    known = {name for uri in datasets for name in DatasetStore.open(uri).listing.subjects()}
    return names_in(known, names, hasher)


def reference(stage: StageName, digest: str) -> str:
    """How recipes name a result."""
    return f"{stage}/{digest}"


def part_reference(ref: str, store: ShardedStore, part: int | None) -> str:
    """How recipes name the part of this number of a joined result; the result itself for None."""
    if part is None or not isinstance(store, JoinedStore):
        return ref
    return f"{ref.partition('/')[0]}/{store.part_names[part]}"


def locate(workspace: str, ref: str, stage: StageName) -> str:
    """The URI of a result that a recipe refers to.

    Raises:
        StoreNotFound: if it is not there; names what is.
    """
    head, _, digest = ref.partition("/")
    if head != stage or not digest:
        raise StoreNotFound(f"{ref!r} does not refer to {stage}: write {stage}/<digest>")
    uri = join(workspace, stage, digest)
    if not list_names(uri):
        known = ", ".join(f"{stage}/{name}" for name in list_names(join(workspace, stage))) or "none"
        raise StoreNotFound(f"there is no {ref} in {workspace}; {stage} there: {known}")
    return uri


def locate_prior(workspace: str, ref: str) -> str:
    """The URI of a trained prior, or the name of a shipped one.

    Raises:
        StoreNotFound: if it is neither; names the shipped ones.
    """
    if not ref or ref in shipped():
        return ref
    if ref.startswith("priors/"):
        return join(locate(workspace, ref, "priors"), "prior")
    if not ref.startswith("trained/") and exists(join(ref, "contract.json")):
        return ref
    raise StoreNotFound(
        f"there is no prior {ref!r}: shipped are {', '.join(shipped()) or 'none'}; a trained one is priors/<digest>, "
        "one that a pipeline trains is trained/<name of trainings>"
    )


def model_of(workspace: str, ref: str) -> Contract | None:
    """The contract of the model that made a result; None if it took none, or if that is gone since."""
    try:
        return read_contract(locate_prior(workspace, ref)) if ref else None
    except StoreError:
        return None


def locate_calibration(workspace: str, ref: str) -> str:
    """The URI of a calibration, or the name of a shipped one.

    Raises:
        StoreNotFound: if it is neither; names the shipped ones.
    """
    if ref in calibration_names():
        return ref
    if ref.startswith("calibrations/"):
        return locate(workspace, ref, "calibrations")
    raise StoreNotFound(
        f"there is no calibration {ref!r}: shipped are {', '.join(calibration_names())}; one of your own is "
        "calibrations/<digest>"
    )


def require_folder(uri: str, role: str, *, mode: int = 0o777) -> None:
    """Make a local folder where there is none, and try whether files can be written into it.

    Raises:
        StoreError: if not; says why, and names the folder and its role.
        StoreFull: if the disk is full.
    """
    try:
        folder = local_path(uri)
        str(folder).encode()
        with full_disk_explained(uri):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(_TRIED_BYTES))
    except UnicodeEncodeError as error:
        raise StoreError(f"{role}, {uri!r}, has a name that is not UTF-8: choose another folder") from error
    except FileExistsError as error:
        raise StoreError(f"{role}, {uri}, is a file: give a folder") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{role}, {uri}, cannot be used ({reason}): give a folder that can be written") from error
