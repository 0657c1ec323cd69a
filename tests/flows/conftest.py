"""What the tests of the command share."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from flows.cli import main

Command = Callable[..., tuple[int, str, str]]


def heed_signals() -> None:
    """In a child before it begins: tests that run under nohup or in the background ignore these, as children would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """Runs the command in this process: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--workspace", str(tmp_path / "workspace")])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    with patch.dict(os.environ):
        yield run
