"""Processes that end with the one that started them: real ones, really killed."""

import time
from pathlib import Path

import psutil
import pytest

from tasks.running import processes
from tasks.running.processes import Child, stop
from tests.tasks.test_train import assert_gone


@pytest.fixture(autouse=True)
def _short_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCOREINV_TRACEBACK", raising=False)


def ready(what: str, **options: str) -> Child:
    child = Child("tests.tasks.child", what, environment=options)
    assert child.has_spoken.wait(60)
    return child


def test_a_child_answers_when_it_is_ready_and_is_heard_from_then_on(capfd: pytest.CaptureFixture[str]) -> None:
    child = ready("wait")
    assert (child.is_alive, child.is_ready, child.answer) == (True, True, "42")
    deadline = time.monotonic() + 60
    said = ""
    while "another word" not in said and time.monotonic() < deadline:
        time.sleep(0.05)
        said += capfd.readouterr().err
    assert said == "a word\nanother word\n"
    stop([child.process])
    assert not child.is_alive


@pytest.mark.parametrize(
    ("what", "failure"),
    [
        ("fail", "it ended with exit code 1; its last words: ImportError: libnothere.so: cannot open"),
        ("die", "it was killed (SIGKILL), as the system does when memory is short; its last words: a word"),
    ],
)
def test_a_child_that_fails_says_why_once(what: str, failure: str, capfd: pytest.CaptureFixture[str]) -> None:
    child = ready(what)
    assert not child.is_ready
    assert child.failure() == failure
    assert capfd.readouterr().err == ""


def test_a_folder_of_the_same_names_does_not_disturb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    child = ready("wait")
    stop([child.process])
    assert child.answer == "42"


def test_a_process_that_does_not_heed_is_killed() -> None:
    child = ready("stubborn")
    start = time.monotonic()
    stop([child.process], 0.5)
    assert not child.is_alive
    assert time.monotonic() - start < 5


def test_a_kill_ends_the_children_and_removes_the_folder(tmp_path: Path) -> None:
    """Also one that is deaf to polite signals, a few seconds later."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    child = ready("parent", SCOREINV_TEST_FOLDER=str(folder))
    deadline = time.monotonic() + 60
    while not (family := psutil.Process(child.process.pid).children()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(family) == 1
    child.process.kill()
    child.process.wait()
    assert_gone(family, processes.LOOK_SECONDS + processes.GRACE_SECONDS + 10)
    assert not folder.exists()
