"""Every error of the project comes back from a Dask worker as what it was: that decides whether it is tried again."""

import importlib
import pkgutil
from collections.abc import Iterator

import pytest
from distributed.core import error_message
from distributed.protocol import pickle

import flows
import scoreinv
import storage
import tasks

PACKAGES = (scoreinv, storage, tasks, flows)


def exceptions() -> Iterator[type[Exception]]:
    """Those that the project defines, wherever."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(found.name)).values():
                if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == found.name:
                    yield value


@pytest.mark.parametrize("kind", sorted(set(exceptions()), key=lambda kind: kind.__qualname__))
def test_an_error_comes_back_as_what_it_was(kind: type[Exception]) -> None:
    try:
        raise kind("what was wanted, what came, what to do") from OSError(2, "the cause")
    except kind as error:
        message = error_message(error)
    back = pickle.loads(message["exception"].data)
    assert type(back) is kind
    assert str(back) == "what was wanted, what came, what to do"


def test_there_are_some() -> None:
    assert {"StoreNotFound", "SourceError", "TooManyFailures"} <= {kind.__name__ for kind in exceptions()}
