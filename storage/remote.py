"""Places that are not on this machine: buckets, and whatever else fsspec knows, with errors that say what to do."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import fsspec

from storage.errors import StoreError


class Kind(NamedTuple):
    """A kind of bucket: the package that reads it, scoreinv's extra that brings it, and how access is granted."""

    package: str
    extra: str
    access: str


_S3 = Kind(
    "s3fs",
    "s3",
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (for a server of your own AWS_ENDPOINT_URL too)",
)
_GCS = Kind(
    "gcsfs",
    "gcs",
    "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run `gcloud auth application-default login`",
)
_AZURE = Kind(
    "adlfs",
    "azure",
    "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
)
_KINDS = {"s3": _S3, "s3a": _S3, "gs": _GCS, "gcs": _GCS, "abfs": _AZURE, "abfss": _AZURE, "az": _AZURE, "adl": _AZURE}
"""By scheme."""

_CLIENTS = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "requests", "s3fs", "urllib3")
"""Packages whose errors, beside OSError, are about a bucket and not about this program."""

_NO_ACCESS = {
    "PermissionError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "RefreshError",
    "ClientAuthenticationError",
}
"""Errors of these packages that say who asks may not, by the names of their classes."""

_NO_ACCOUNT = "unable to connect to account"
"""What adlfs says in a ValueError."""

_NO_BUCKET = re.compile(
    r"bucket does not exist|NoSuchBucket|container does not exist|ContainerNotFound|\bb/[^/]+/o$", re.IGNORECASE
)
"""What is said, or how the error is called; gcsfs only names the address that it asked."""


@contextmanager
def remote(uri: str) -> Iterator[tuple[Any, str]]:
    """A block with the fsspec file system of a URI and the path in it, in which what goes wrong is explained.

    That a file is not there, or is there already, is no such thing: FileNotFoundError and FileExistsError pass.

    Raises:
        StoreError: if a package is missing, there is no such bucket, or whoever asks may not.
        ConnectionError: if the place does not answer as it should, which another try may mend.
    """
    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
        yield filesystem, str(path)
    except Exception as error:
        explained = _explained(uri, error)
        if explained is None:
            raise
        raise explained from error


def one_request(filesystem: Any) -> dict[str, int]:
    """Options by which whole files are read in one request each, where s3fs would ask for their sizes first."""
    return {"max_concurrency": 1} if "s3" in filesystem.protocol else {}


def _explained(uri: str, error: Exception) -> Exception | None:
    """The error in words; None if it passes as it is."""
    scheme, _, rest = uri.partition("://")
    kind, bucket = _KINDS.get(scheme), f"{scheme}://{rest.partition('/')[0]}"
    chain = [one for one in (error, error.__cause__) if one is not None]
    reason = next(iter(str(error).strip().splitlines()), "")[:200] or type(error).__name__
    if isinstance(error, ImportError):
        how = f"the package {kind.package}: pip install 'scoreinv[{kind.extra}]'" if kind else f"a package: {error}"
        return StoreError(f"{uri}: places of {scheme}:// need {how}")
    if isinstance(error, ValueError) and reason.startswith("Protocol not known"):
        return StoreError(f"{uri}: there are no places of this kind: use a folder, s3://, gs:// or abfs://")
    if any(_NO_BUCKET.search(f"{type(one).__name__}: {one}") for one in chain):
        return StoreError(f"{uri}: there is no {bucket} ({reason}): make it, or correct its name")
    if isinstance(error, FileNotFoundError | NotADirectoryError | FileExistsError):
        return None
    names = {base.__name__ for one in chain for base in type(one).__mro__}
    is_refused = any(getattr(one, name, None) in (401, 403) for one in chain for name in ("status_code", "code"))
    if is_refused or names & _NO_ACCESS or (isinstance(error, ValueError) and reason.startswith(_NO_ACCOUNT)):
        how = kind.access if kind else "give credentials that may"
        return StoreError(f"{uri}: no access ({reason}): {how}")
    if _is_of_the_place(error):
        return ConnectionError(
            f"{uri}: {bucket} does not answer as it should ({reason}): see whether it runs and the network reaches it, "
            "then run the same command again; what is done is kept"
        )
    return None


def _is_of_the_place(error: Exception) -> bool:
    if isinstance(error, OSError):
        # A full disk is explained where it was to be written.
        return error.errno not in (errno.ENOSPC, errno.EDQUOT)
    return any(base.__module__.partition(".")[0] in _CLIENTS for base in type(error).__mro__)
