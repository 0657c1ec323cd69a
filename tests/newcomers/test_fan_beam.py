"""A newcomer brings a scanner with a fan of rays: one geometry on the public interface, and nothing else."""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor

from scoreinv.baselines import TotalVariation
from scoreinv.errors import UserError
from scoreinv.linalg import conjugate_gradient
from scoreinv.noise import Noise
from scoreinv.operators import projectors
from scoreinv.operators.ct import CTOperator
from scoreinv.operators.geometry import Geometry, ramp_filter
from scoreinv.phantoms import disc, rasterise, shepp_logan
from scoreinv.problem import InverseProblem, reconstruct
from tests.contracts import check_operator

STEPS_PER_PIXEL = 8


@dataclass(frozen=True)
class FanBeam(Geometry):
    """Rays from a source that goes round the image, to the middles of bins on a flat detector through the centre.

    Attributes:
        size: pixels along each side of the image.
        n_views: positions of the source, at even steps over a whole turn.
        n_bins: of the detector.
        bin_spacing: width of a bin, in pixel sides.
        distance: of the source from the centre, in pixel sides.
    """

    size: int
    n_views: int
    n_bins: int
    bin_spacing: float
    distance: float
    full_arc = 2 * math.pi

    @property
    def data_shape(self) -> tuple[int, int]:
        return self.n_views, self.n_bins

    @property
    def step(self) -> float:
        return self.full_arc / self.n_views

    def refined(self, factor: int) -> Self:
        return replace(self, size=self.size * factor, n_bins=self.n_bins * factor, distance=self.distance * factor)

    def rows(self, view: int) -> sparse.csr_matrix:
        """Lengths of rays in pixels, by points along each ray."""
        cos, sin = math.cos(view * self.step), math.sin(view * self.step)
        bins = (np.arange(self.n_bins) - (self.n_bins - 1) / 2) * self.bin_spacing
        length = np.hypot(bins, self.distance)[:, None]
        n_points = math.ceil(math.sqrt(2) * self.size * STEPS_PER_PIXEL)
        along = self.distance + (np.arange(n_points) - (n_points - 1) / 2) / STEPS_PER_PIXEL
        across, deep = bins[:, None] * along / length, self.distance * (along / length - 1)
        columns = np.floor(across * cos - deep * sin + self.size / 2).astype(int)
        rows = np.floor(self.size / 2 - across * sin - deep * cos).astype(int)
        inside = (columns >= 0) & (columns < self.size) & (rows >= 0) & (rows < self.size)
        ray = np.broadcast_to(np.arange(self.n_bins)[:, None], inside.shape)[inside]
        pixel = (rows * self.size + columns)[inside]
        values = np.full(len(ray), 1 / STEPS_PER_PIXEL)
        return sparse.coo_matrix((values, (ray, pixel)), shape=(self.n_bins, self.size**2)).tocsr()

    def filtered(self, y: Tensor) -> Tensor:
        """Every line is seen twice. A^T weighs by 1 / distance where the exact formula has its square: opposite views
        cancel most of the difference."""
        bins = (torch.arange(self.n_bins) - (self.n_bins - 1) / 2) * self.bin_spacing
        cosine = (self.distance / torch.hypot(bins, torch.tensor(self.distance))).to(y)
        return cosine * ramp_filter(cosine * y) / 2


def fan(size: int, n_views: int) -> FanBeam:
    return FanBeam(size, n_views, n_bins=math.ceil(1.6 * size), bin_spacing=1.0, distance=3.0 * size)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_the_operator_keeps_its_promises(n_channels: int) -> None:
    check_operator(CTOperator(fan(16, 12), n_full=90, n_channels=n_channels), dtype=torch.float32)


def test_the_operator_keeps_its_promises_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """A newcomer's large geometry needs nothing more."""
    monkeypatch.setenv("SCOREINV_PROJECTORS", str(tmp_path))
    monkeypatch.setattr(projectors, "IN_MEMORY_BYTES", 0)
    check_operator(CTOperator(fan(16, 12), n_full=90), dtype=torch.float32)


def test_rays_through_a_disc_have_the_lengths_of_its_chords() -> None:
    geometry, radius = fan(64, 4), 24.0
    image = torch.from_numpy(rasterise([disc(radius / 32)], 64))[None, None]
    bins = np.arange(geometry.n_bins) - (geometry.n_bins - 1) / 2
    distance = np.abs(bins) * geometry.distance / np.hypot(bins, geometry.distance)
    expected = 2 * np.sqrt(np.maximum(radius**2 - distance**2, 0))
    for view in CTOperator(geometry).forward(image)[0].numpy():
        assert np.abs(view - expected).mean() < 0.02 * expected.max()


def psnr(x: Tensor, truth: Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()))


def test_a_phantom_comes_back_from_data_of_a_finer_grid() -> None:
    size = 48
    truth = torch.from_numpy(shepp_logan(size))[None, None]
    fine = torch.from_numpy(shepp_logan(2 * size))[None, None]
    full = CTOperator(fan(size, 120))
    assert psnr(full.direct(full.simulate(fine)), truth) > 20
    few = CTOperator(fan(size, 30), n_full=120)
    problem = InverseProblem(few, few.simulate(fine))
    direct = psnr(few.direct(problem.y), truth)
    smallest = conjugate_gradient(few.normal, few.adjoint(problem.y), torch.zeros_like(truth), n_iters=20)
    flat = reconstruct(TotalVariation(weight=1e-3), problem, noise=Noise(0, ["head"])).x
    assert psnr(smallest, truth) > direct + 1
    assert psnr(flat, truth) > direct + 4


def test_what_needs_parallel_lines_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    operator = CTOperator(fan(16, 12))
    with pytest.raises(UserError, match="FanBeam"):
        operator.as_fourier_slice(torch.zeros(1, *operator.data_shape))
    monkeypatch.setattr(projectors, "require", lambda name: None)
    with pytest.raises(UserError, match="parallel beams, not for FanBeam"):
        operator.with_projector("astra")
