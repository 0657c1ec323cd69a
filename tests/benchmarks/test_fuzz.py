"""A few wrong recipes through the command, and that harm would be seen."""

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.fuzz import Outcome, faults
from benchmarks.mutants import mutants

ROOT = Path(__file__).parents[2]


def test_wrong_recipes_are_one_message(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz", "--kinds", "yaml", "--mutants", "25", "--keep", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "25 mutants, 0 did" in run.stdout


def test_harm_is_seen() -> None:
    assert faults(Outcome(0, 1.0, 1 << 29, "datasets/ab12"), 10) == []
    bad = Outcome(-9, 11.0, 1 << 31, "Traceback (most recent call last):")
    assert faults(bad, 10) == ["exit code -9", "a traceback", "11 s", "2048 MB"]


def test_a_seed_makes_the_same_mutants() -> None:
    for kind in ("dicom", "nifti", "yaml"):
        first, again, other = (list(mutants(kind, 3, seed)) for seed in (0, 0, 1))
        assert first == again != other
