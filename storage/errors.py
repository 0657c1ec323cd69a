"""What can go wrong with a store or a source, as a small tree of exceptions.

Each has one base and one text: an exception with two bases does not come back from a Dask worker as what it was.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from scoreinv.errors import UserError

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class StoreError(RuntimeError):
    """A store cannot do what was asked."""


class StoreNotFound(StoreError):  # noqa: N818  (a state, not an Error, is what the name says)
    """There is no store, or no file of a store, in this place."""


class StoreIncomplete(StoreError):  # noqa: N818  (a state, not an Error, is what the name says)
    """Some shards are not done, or the store was never finished."""


class StoreMismatch(StoreError):  # noqa: N818  (a state, not an Error, is what the name says)
    """What is stored is not what was expected: another plan, or other bytes."""


class StoreHeld(StoreError):  # noqa: N818  (a state, not an Error, is what the name says)
    """Another process works on this; the message says which one, where, and since when."""


class LeaseLost(StoreHeld):
    """This process was taken for dead, and another one may work in its place."""


class StoreFull(StoreError):  # noqa: N818  (a state, not an Error, is what the name says)
    """The disk or the quota under a store is full."""


class SourceError(UserError):
    """The input data cannot be used."""


@contextmanager
def full_disk_explained(uri: str) -> Iterator[None]:
    """A block in which a full disk or quota becomes a StoreFull that names the store."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise StoreFull(
            f"the disk (or quota) under {uri} is full: free some space, then run the same command again; "
            "what is done is kept and it resumes there"
        ) from error
