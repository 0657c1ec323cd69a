"""A modality is one row: what is said of one is said of all, and nobody else asks which one it is."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from scoreinv.modality import MODALITIES, Modality
from tasks.planning import presets

ROOT = Path(__file__).parents[2]

FILES_OF_A_MODALITY = {
    "scoreinv/modality.py",
    "tasks/planning/presets.py",
    # What CT or MR files hold, and how they are told from scouts, phases and labels, differs by its nature.
    "storage/sources/nifti.py",
    "storage/sources/openkbp.py",
    "storage/sources/dicom/header.py",
    "storage/sources/dicom/meaning.py",
    "storage/sources/dicom/pixels.py",
    "storage/sources/dicom/source.py",
    "storage/sources/dicom/stacks.py",
}


def asked(path: Path) -> Iterator[int]:
    """Lines where a modality is compared with, is a key, or is looked up by its name."""
    for node in ast.walk(ast.parse(path.read_text())):
        parts: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Dict):
            parts = list(node.keys)
        elif isinstance(node, ast.Subscript):
            parts = [node.slice]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        names = [leaf for part in parts if part is not None for leaf in ast.walk(part)]
        if any(isinstance(leaf, ast.Constant) and leaf.value in get_args(Modality) for leaf in names):
            yield node.lineno


def test_nobody_asks_for_a_modality_by_its_name() -> None:
    folders = ("scoreinv", "storage", "tasks", "flows")
    files = {path: list(asked(path)) for folder in folders for path in (ROOT / folder).rglob("*.py")}
    found = {str(path.relative_to(ROOT)): lines for path, lines in files.items() if lines}
    assert set(found) == FILES_OF_A_MODALITY, found


@pytest.mark.parametrize(
    "table", [MODALITIES, presets.PRESETS, presets.BASELINES, presets.WAVELETS, presets.SOLVERS, presets.COMPARED]
)
def test_every_table_has_every_modality(table: dict[Modality, object]) -> None:
    assert set(table) == set(get_args(Modality))


@pytest.mark.parametrize("modality", get_args(Modality))
def test_a_row_does_not_contradict_itself(modality: Modality) -> None:
    traits = MODALITIES[modality]
    tissue, (black, white) = traits.tissue, traits.window
    assert traits.background < traits.foreground < tissue.body
    assert tissue.low <= traits.background <= black < tissue.body < white
    assert tissue.body < tissue.high
    assert all(window.low < window.high for window in traits.windows)
    limits = [limit for one in traits.classes for limit in (one.low, one.high)]
    assert limits == sorted(limits)
    assert traits.small is None or min(traits.small) > 0


def test_no_two_are_taken_for_each_other() -> None:
    for name in ("units", "sop_class", "dicom_name"):
        assert len({getattr(traits, name) for traits in MODALITIES.values()}) == len(MODALITIES)
