"""The reading process: results and errors come back, and what hangs, eats or crashes ends alone."""

import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from storage.errors import SourceError
from storage.sources.dicom.pixels import read_values
from storage.sources.limits import within_limits
from tests.storage import dicom_files as files


def reading_process() -> int:
    """The process number of the reading process."""
    return within_limits(os.getpid)


def test_what_is_read_is_what_a_direct_call_gives(tmp_path: Path) -> None:
    path = files.save(tmp_path / "x.dcm", files.dataset(files.stored_slice()))
    np.testing.assert_array_equal(within_limits(read_values, path, "ct"), read_values(path, "ct"))
    assert reading_process() == reading_process() != os.getpid()


def test_errors_come_back_as_reasons(tmp_path: Path) -> None:
    path = files.save(tmp_path / "x.dcm", files.dataset(files.stored_slice(), PixelData=None))
    with pytest.raises(SourceError, match="no PixelData"):
        within_limits(read_values, path, "ct")
    with pytest.raises(SourceError, match=r"damaged.*FileNotFoundError"):
        within_limits(os.listdir, str(tmp_path / "nowhere"))


def test_computing_without_end_is_given_up_and_the_next_file_is_read() -> None:
    before = reading_process()
    with pytest.raises(SourceError, match=r"more than 0\.1 s of computing|more than 2 s"):  # On a busy machine.
        within_limits(pow, 3, 10**9, cpu_seconds=0.1)  # In C, for an hour.
    assert reading_process() != before
    assert not psutil.pid_exists(before)


def test_memory_has_a_bound() -> None:
    with pytest.raises(SourceError, match="too much memory"):
        within_limits(bytes, 1 << 32)


def test_a_crash_is_a_reason() -> None:
    with pytest.raises(SourceError, match=r"crashed \(exit code -6\)"):
        within_limits(os.abort)


def test_waiting_costs_no_computing_but_has_an_end() -> None:
    within_limits(time.sleep, 0.3, cpu_seconds=0.1)
    with pytest.raises(SourceError, match=r"more than 2 s: it was given up"):
        within_limits(time.sleep, 60, cpu_seconds=0.1)
