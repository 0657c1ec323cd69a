"""An array in a file is written by one process, read by all, and takes none of them memory of its own."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from storage.mapped import cache_folder, mapped, remove_mapped

SHAPE = (10, 1, 4, 4)
IMAGES = np.arange(160, dtype=np.float32).reshape(SHAPE)


def parts() -> Iterator[np.ndarray]:
    yield IMAGES[:3, 0]
    yield IMAGES[3:]


def never() -> Iterator[np.ndarray]:
    raise AssertionError("the file is there already")
    yield


def test_the_first_writes_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.images"
    first = mapped(path, SHAPE, parts())
    assert np.array_equal(first, IMAGES)
    again = mapped(path, SHAPE, never())
    assert np.array_equal(again, IMAGES)
    assert not first.flags.writeable
    remove_mapped(path)
    assert not path.exists()
    assert np.array_equal(first, IMAGES)
    remove_mapped(path)


def test_several_at_once_write_it_once(tmp_path: Path) -> None:
    path, written, found = tmp_path / "a.images", list[int](), list[np.ndarray]()

    def slow_parts() -> Iterator[np.ndarray]:
        written.append(1)
        yield from parts()

    threads = [threading.Thread(target=lambda: found.append(mapped(path, SHAPE, slow_parts()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1
    assert all(np.array_equal(one, IMAGES) for one in found)
    assert len(found) == 4


def test_what_was_interrupted_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.images"

    def interrupted() -> Iterator[np.ndarray]:
        yield IMAGES[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mapped(path, SHAPE, interrupted())
    assert not path.exists()
    assert np.array_equal(mapped(path, SHAPE, parts()), IMAGES)


def test_the_folder_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache_folder("")
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    assert cache_folder(str(tmp_path / "fast" / "disk")).is_dir()


CHILD = """
import re, sys
from pathlib import Path
import numpy as np
from storage.mapped import mapped
shape = (96, 1, 512, 512)
def anonymous():
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(re.search(r"^Anonymous: +(\\d+) kB", text, re.M)[1]) / 1024
before = anonymous()
images = mapped(Path(sys.argv[1]), shape, (np.full((1, 512, 512), i, np.float32) for i in range(96)))
total = float(images.sum(dtype=np.float64))
print(anonymous() - before, total)
"""


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what memory is whose")
def test_neither_who_writes_nor_who_reads_holds_the_images(tmp_path: Path) -> None:
    path = tmp_path / "large.images"
    for _ in range(2):
        command = [sys.executable, "-c", CHILD, str(path)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        megabytes, total = map(float, output.split())
        assert total == sum(range(96)) * 512 * 512
        assert megabytes < 30  # of 96 in the file
