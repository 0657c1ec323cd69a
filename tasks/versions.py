"""The packages that decide results, and which version of each is installed."""

from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import scoreinv

PACKAGES = ("torch", "numpy", "zarr", "dask", "prefect")
OPTIONAL = ("pyarrow",)
"""Named where they are installed: a report made without is not up to date once they are."""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of this package and of those that reports name."""
    return {"scoreinv": scoreinv.__version__} | {name: version(name) for name in PACKAGES} | _optional()


def _optional() -> dict[str, str]:
    found = {}
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
