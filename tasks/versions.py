"""The packages that decide results, and which version of each is installed."""

from functools import lru_cache
from importlib.metadata import version

import scoreinv

PACKAGES = ("torch", "numpy", "zarr", "dask", "prefect")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of this package and of those that reports name."""
    return {"scoreinv": scoreinv.__version__} | {name: version(name) for name in PACKAGES}
