"""zarr by URI."""

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from storage.uri import is_local, local_path, package_explained


def zarr_store(uri: str) -> Store:
    """The zarr store of a URI, to read from: the local file system for paths, fsspec for everything else."""
    if is_local(uri):
        return LocalStore(local_path(uri), read_only=True)
    with package_explained(uri):
        return FsspecStore.from_url(uri, read_only=True)
