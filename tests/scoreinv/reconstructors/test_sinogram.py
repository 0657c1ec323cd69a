"""Measured views among those of a full scan."""

import math

import pytest
import torch
from torch import Tensor

from scoreinv.errors import UserError
from scoreinv.operators.ct import CTOperator, LimitedAngleCT, SparseViewCT, covering_n_bins
from scoreinv.operators.mri import CartesianMRI
from scoreinv.operators.parallel_beam import ParallelBeam
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem
from scoreinv.reconstructors.sinogram import FullScan

SIZE = 48


def head() -> Tensor:
    return torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()[None, None].clamp(0, 1)


def problem(spec: SparseViewCT | LimitedAngleCT) -> InverseProblem:
    operator = spec.operator(SIZE)
    return InverseProblem(operator, operator.forward(head()))


@pytest.mark.parametrize("spec", [SparseViewCT(n_views=9), LimitedAngleCT(n_views=12, arc_degrees=120)])
def test_measured_views_lie_where_the_full_scan_has_them(spec: SparseViewCT | LimitedAngleCT) -> None:
    scan = FullScan(problem(spec), 36)
    full = scan.sinograms(head())
    placed = scan.placed()
    rows = placed.flatten(2).abs().sum(2)[0] > 0
    assert int(rows.sum()) == spec.n_views
    torch.testing.assert_close(placed[:, rows], full[:, rows])
    assert torch.equal(scan.kept(full * 0.5)[:, rows], placed[:, rows])
    assert torch.equal(scan.kept(full * 0.5)[:, ~rows], full[:, ~rows] * 0.5)


def test_views_between_those_of_the_full_scan_are_placed_but_not_kept() -> None:
    scan = FullScan(problem(SparseViewCT(n_views=7)), 36)
    full = scan.sinograms(head())
    placed = scan.placed()
    assert int((placed.abs().sum(2)[0] > 0).sum()) == 7
    # Only the first one lies at an angle of the full scan.
    assert torch.equal(scan.kept(full * 0)[:, 0], placed[:, 0])
    assert float(scan.kept(full * 0)[:, 1:].abs().max()) == 0


def test_a_view_just_before_half_a_turn_is_the_first_one_reversed() -> None:
    beam = ParallelBeam(SIZE, (math.pi * (1 - 1e-9),), covering_n_bins(SIZE))
    operator = CTOperator(beam)
    scan = FullScan(InverseProblem(operator, operator.forward(head())), 36)
    torch.testing.assert_close(scan.placed()[:, 0], scan.sinograms(head())[:, 0], atol=1e-5, rtol=0)


def test_interpolation_keeps_measured_views_and_goes_on_around() -> None:
    scan = FullScan(problem(SparseViewCT(n_views=18)), 36)
    full, guess = scan.sinograms(head()), scan.interpolated()
    torch.testing.assert_close(guess[:, ::2], full[:, ::2], atol=1e-5, rtol=0)
    # The last view lies between the last measured one and the first, reversed.
    wanted = (full[:, -2] + full[:, 0].flip(-1)) / 2
    torch.testing.assert_close(guess[:, -1], wanted, atol=1e-5, rtol=0)
    assert float((guess - full).norm()) < 0.3 * float((scan.placed() - full).norm())


def test_images_of_a_complete_scan_are_its_filtered_backprojections() -> None:
    scan = FullScan(problem(SparseViewCT(n_views=36)), 36)
    full = scan.sinograms(head())
    operator = SparseViewCT(n_views=36).operator(SIZE)
    torch.testing.assert_close(scan.image(full), operator.direct(operator.forward(head())), atol=1e-5, rtol=0)
    few = SparseViewCT(n_views=9).operator(SIZE)
    torch.testing.assert_close(scan.image(full, every=4), few.direct(few.forward(head())), atol=1e-5, rtol=0)


def test_data_without_parallel_beams_or_of_several_channels_are_refused() -> None:
    mri = CartesianMRI().operator(SIZE)
    with pytest.raises(UserError, match="completes sinograms of parallel beams"):
        FullScan(InverseProblem(mri, mri.forward(head())), 36)
    two = SparseViewCT(n_views=9).operator(SIZE, n_channels=2)
    with pytest.raises(UserError, match="needs images of 1 channel, not 2"):
        FullScan(InverseProblem(two, two.forward(head().repeat(1, 2, 1, 1))), 36)
