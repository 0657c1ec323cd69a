"""The rules of the repository that a machine can check."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scoreinv.nets import AnyNetwork
from scoreinv.reconstructors import AnyModel
from scoreinv.training.objectives import AnyObjective
from storage.sources import AnySource
from tasks.running.cluster import AnyCluster
from tests.cases import CLUSTERS, NETWORKS, OBJECTIVES, RECONSTRUCTORS, SOURCES, missing

ROOT = Path(__file__).parents[1]
PACKAGES = ("scoreinv", "storage", "tasks", "flows")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_FUNCTION, LONGEST_FILE = 60, 500

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def test_layers_import_downwards_only() -> None:
    """The contracts are in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for function in functions(path):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{function.name} has {length} lines"
        assert function.args.kwarg is None or is_imposed(function), f"{function.name} takes **{function.args.kwarg}"


def is_imposed(function: Function) -> bool:
    """Whether somebody else's interface asks for ``**kwargs`` (a Dask plugin's, here)."""
    return function.name == "update_graph"


@pytest.mark.parametrize(
    ("cases", "union"),
    [
        (SOURCES, AnySource),
        (CLUSTERS, AnyCluster),
        (NETWORKS, AnyNetwork),
        (OBJECTIVES, AnyObjective),
        (NETWORKS | RECONSTRUCTORS, AnyModel),
    ],
    ids=["sources", "clusters", "networks", "objectives", "reconstructors"],
)
def test_every_member_of_a_union_has_a_case_and_survives_json(cases: dict[str, Any], union: Any) -> None:
    assert missing(cases, union) == set()
    for case in cases.values():
        assert type(case).model_validate_json(case.model_dump_json()) == case
