"""Which errors show a message alone: those that somebody can mend, also when they come back from a worker."""

import errno
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from scoreinv.errors import MissingPackage, UserError
from scoreinv.operators.projectors import require
from storage.errors import SourceError, StoreFull, StoreNotFound
from tasks.running.mistakes import OUT_OF_MEMORY, TooManyFailures, explain
from tasks.workspace import locate


def _error_of(work: Any, *arguments: Any) -> Exception:
    try:
        work(*arguments)
    except Exception as error:
        return error
    raise AssertionError("this was to fail")


FAULTS = {
    "shapes": lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
    "state of a network": lambda: torch.nn.Linear(1, 2).load_state_dict({}),
    "a value": lambda: int("x"),
    "a key": lambda: {}["x"],
    "a type": lambda: "a" + 1,  # type: ignore[operator]
    "an attribute": lambda: None.x,  # type: ignore[attr-defined]
    "an import": lambda: __import__("scoreinv.nothing_there"),
    "an assertion": lambda: pytest.fail("x") if False else (_ for _ in ()).throw(AssertionError("x")),
    "text": lambda: "é".encode("ascii"),
    "recursion": lambda: explain_for_ever(),
}


def explain_for_ever() -> None:
    """Never ends by itself."""
    explain_for_ever()


@pytest.mark.parametrize("work", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_program_has_no_message_of_its_own(work: Any) -> None:
    assert explain(_error_of(work)) is None


def test_what_can_be_mended_has_one(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    assert explain(UserError("lower n_acs")) == "lower n_acs"
    assert explain(SourceError("no image")) == "no image"
    assert explain(StoreFull("the disk is full")) == "the disk is full"
    assert "write datasets/<digest>" in str(explain(_error_of(locate, str(tmp_path), "x/y", "datasets")))
    assert explain(_error_of(open, tmp_path / "nothing")) == f"{tmp_path / 'nothing'}: No such file or directory"
    assert explain(_error_of((tmp_path / "a file" / "x").mkdir)) == f"{tmp_path / 'a file' / 'x'}: Not a directory"
    assert explain(OSError(errno.ENOSPC, "No space left on device", "/x")) == "/x: No space left on device"
    assert explain(ConnectionError("no scheduler at tcp://x")) == "no scheduler at tcp://x"
    assert explain(StoreNotFound("there is no store")) == "there is no store"


def test_memory_that_runs_out_is_the_machines() -> None:
    error = _error_of(lambda: torch.empty(1 << 55))
    assert isinstance(error, RuntimeError)
    assert explain(error) == OUT_OF_MEMORY
    assert explain(MemoryError()) == OUT_OF_MEMORY
    assert explain(MemoryError("one image does not fit")) == "one image does not fit"


def test_a_server_that_does_not_answer_is_named() -> None:
    error = _error_of(httpx.get, "http://127.0.0.1:9/api")
    assert "the Prefect server does not answer" in str(explain(error))


def test_a_missing_package_is_named() -> None:
    error = MissingPackage("projector='astra' needs the package 'astra'")
    assert explain(error) == str(error)
    assert require("matrix") is None


def test_shards_that_failed_are_a_fault_if_one_of_them_is() -> None:
    failed = TooManyFailures("shard 0: x")
    assert explain(failed) == "shard 0: x"
    failed.__cause__ = ValueError("x")
    assert explain(failed) is None
