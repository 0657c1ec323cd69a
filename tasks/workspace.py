"""Where results lie: <workspace>/<stage>/<digest>, and the references that name them."""

import tempfile
from typing import Literal

from storage.errors import StoreError, StoreNotFound, full_disk_explained
from storage.models import shipped
from storage.uri import exists, join, list_names, local_path

_TRIED_BYTES = 1 << 16
"""A disk that is full takes an empty file."""

StageName = Literal[
    "datasets", "measurements", "trainings", "priors", "reconstructions", "scores", "reports", "tuning", "plans"
]


def reference(stage: StageName, digest: str) -> str:
    """How recipes name a result."""
    return f"{stage}/{digest}"


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
    if exists(join(ref, "contract.json")):
        return ref
    raise StoreNotFound(
        f"there is no prior {ref!r}: shipped are {', '.join(shipped()) or 'none'}; a trained one is priors/<digest>"
    )


def require_folder(uri: str, role: str) -> None:
    """Make a local folder where there is none, and try whether files can be written into it.

    Raises:
        StoreError: if not; says why, and names the folder and its role.
        StoreFull: if the disk is full.
    """
    try:
        folder = local_path(uri)
        str(folder).encode()
        with full_disk_explained(uri):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(_TRIED_BYTES))
    except UnicodeEncodeError as error:
        raise StoreError(f"{role}, {uri!r}, has a name that is not UTF-8: choose another folder") from error
    except FileExistsError as error:
        raise StoreError(f"{role}, {uri}, is a file: give a folder") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"{role}, {uri}, cannot be used ({reason}): give a folder that can be written") from error
