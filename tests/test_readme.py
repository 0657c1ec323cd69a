"""The README's example of the library, run as it stands there by somebody who is elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_library_example_runs_as_it_stands(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    calls, decibels = re.fullmatch(r"(\d+) network calls, ([\d.]+) dB\n", done.stdout).groups()  # type: ignore[union-attr]
    assert int(calls) == 50
    # Filtered backprojection of these data reaches 25 dB.
    assert float(decibels) > 32
