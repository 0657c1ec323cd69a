"""Scans whose matrix lies in a file do what scans in memory do."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse

from scoreinv.operators import projectors, stored_matrix
from scoreinv.operators.ct import CTMeasurement, CTOperator, LimitedAngleCT, SparseViewCT
from scoreinv.operators.geometry import Geometry, SparseRows, moved, moved_back
from scoreinv.operators.parallel_beam import ParallelBeam
from tests.contracts import ROUNDING, check_operator, white_data, white_images

SPECS: dict[str, CTMeasurement] = {
    "even": SparseViewCT(n_views=16),
    "odd": SparseViewCT(n_views=9),
    "paper": SparseViewCT(n_views=9, n_full=32, views="paper"),
    "three": SparseViewCT(n_views=3),
    "limited": LimitedAngleCT(n_views=20, arc_degrees=120),
}
ANGLES = (-0.3, 0.0, 0.2, math.pi / 4, 1.0, math.pi / 2, 1.9, 3 * math.pi / 4, 2.7, math.pi, 3.5, 5.0, 6.1)
by_name = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Blocks of about three views each."""
    monkeypatch.setenv(stored_matrix.FOLDER, str(tmp_path))
    monkeypatch.setattr(stored_matrix, "BLOCK_BYTES", 3 * 8 * 1.6 * 34 * 24)
    stored_matrix.stored_matrix.cache_clear()
    yield
    stored_matrix.stored_matrix.cache_clear()


@pytest.fixture
def all_is_large(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(projectors, "IN_MEMORY_BYTES", 0)
    return monkeypatch


@by_name
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.usefixtures("all_is_large")
def test_operator_keeps_its_promises(spec: CTMeasurement, dtype: torch.dtype) -> None:
    check_operator(spec.operator(24), dtype=dtype)


@pytest.mark.usefixtures("all_is_large")
def test_operator_of_two_channels_keeps_its_promises() -> None:
    check_operator(CTOperator(SPECS["even"].geometry(17), n_channels=2), dtype=torch.float32)


@by_name
@pytest.mark.parametrize("size", [24, 25])
def test_only_rounding_tells_file_and_memory_apart(
    spec: CTMeasurement, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = spec.operator(size)
    x, y = white_images(operator, n=11), white_data(operator, n=11)
    expected = operator.forward(x), operator.adjoint(y), operator.simulate(white_images(spec.operator(2 * size)))
    monkeypatch.setattr(projectors, "IN_MEMORY_BYTES", 0)
    found = operator.forward(x), operator.adjoint(y), operator.simulate(white_images(spec.operator(2 * size)))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING[torch.float64])


def times(rows: SparseRows, x: torch.Tensor) -> np.ndarray:
    return sparse.csr_matrix((rows.data, rows.indices, rows.indptr), rows.shape) @ x.flatten().numpy()


@pytest.mark.parametrize(
    "geometry",
    [ParallelBeam(16, ANGLES, 24), ParallelBeam(17, ANGLES, 30, 0.5), ParallelBeam(16, ANGLES, 9)],
    ids=["even", "odd_and_narrow_bins", "short_detector"],
)
def test_views_are_those_of_moved_images(geometry: ParallelBeam) -> None:
    # Each angle twice, so that there is something to gain.
    twice = ParallelBeam(geometry.size, ANGLES + ANGLES, geometry.n_bins, geometry.bin_spacing)
    fold = twice.fold()
    assert fold is not None
    x = torch.randn(geometry.size, geometry.size, dtype=torch.float64)
    for view, (place, move, is_reversed) in enumerate(zip(fold.views, fold.moves, fold.are_reversed, strict=True)):
        y = times(fold.geometry.rows(place), moved(x, move))
        expected = times(twice.rows(view), x)
        torch.testing.assert_close(torch.from_numpy(y[::-1].copy() if is_reversed else y), torch.from_numpy(expected))


def test_moves_have_inverses() -> None:
    x = torch.randn(2, 5, 5)
    seen = {tuple(moved(x, move).flatten().tolist()) for move in range(8)}
    assert len(seen) == 8
    for move in range(8):
        assert torch.equal(moved_back(moved(x, move), move), x)


@pytest.mark.parametrize(
    ("spec", "n_stored"),
    [(SparseViewCT(n_views=720, n_full=720), 181), (SparseViewCT(n_views=23), 12), (SPECS["paper"], None)],
    ids=["even", "odd", "paper"],
)
def test_a_fraction_of_equispaced_views_is_stored(spec: CTMeasurement, n_stored: int | None) -> None:
    fold = spec.geometry(32).fold()
    assert (fold and fold.geometry.data_shape[0]) == n_stored


@pytest.mark.parametrize(
    ("geometry", "is_in_memory"),
    [
        (SparseViewCT(n_views=23).geometry(512), True),
        (SparseViewCT(n_views=180).geometry(256), True),
        (SparseViewCT(n_views=180).geometry(320), False),
        (SparseViewCT(n_views=720, n_full=720).geometry(512), False),
    ],
)
def test_size_alone_decides(geometry: Geometry, is_in_memory: bool) -> None:
    project = projectors.projector(geometry, "matrix").project.args[0].func  # type: ignore[attr-defined]
    assert (project is projectors._matrix_project) == is_in_memory


@pytest.mark.usefixtures("all_is_large")
def test_several_blocks_are_used() -> None:
    """Or these tests would not see a fault where blocks meet."""
    wanted = stored_matrix.Wanted(SPECS["even"].geometry(24), torch.float32, is_transposed=True)
    assert len(wanted.views()) > 3
    assert sum(len(views) for views in wanted.views()) == 16
