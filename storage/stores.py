"""zarr groups by URI."""

import zarr
from zarr.abc.store import Store
from zarr.errors import ContainsGroupError
from zarr.storage import FsspecStore, LocalStore

from storage.uri import is_local, local_path


def zarr_store(uri: str) -> Store:
    """The zarr store of a URI: the local file system for paths, fsspec for everything else."""
    return LocalStore(local_path(uri)) if is_local(uri) else FsspecStore.from_url(uri)


def open_group(uri: str) -> zarr.Group:
    """The zarr group at a URI, for reading and writing, made if it is not there yet."""
    try:
        return zarr.open_group(zarr_store(uri), mode="a", zarr_format=3)
    except ContainsGroupError:
        # Another process made it between zarr's look and zarr's creation.
        return zarr.open_group(zarr_store(uri), mode="r+", zarr_format=3)
