"""Unconditional samples follow the prior they are drawn from, and pictures can be made of any curve."""

import math

import pytest
import torch

from scoreinv.denoiser import GaussianDenoiser
from scoreinv.noise import Noise
from scoreinv.samplers.heun import prior_samples
from tasks.workers.training.curve import CurveRow
from tasks.workers.training.prior_pictures import curve_figure, samples_figure, sampling_grid

SIDE = 4


def test_samples_of_a_gaussian_prior_have_its_mean_and_variances() -> None:
    n = 2000
    basis, _ = torch.linalg.qr(torch.randn(SIDE**2, SIDE**2, generator=torch.Generator().manual_seed(0)).double())
    variances = torch.logspace(-3, 0, SIDE**2, dtype=torch.float64)
    mean = torch.linspace(-1, 1, SIDE**2, dtype=torch.float64).view(SIDE, SIDE)
    prior = GaussianDenoiser(mean, basis * variances @ basis.T)
    noise = Noise(0, [str(i) for i in range(n)])
    samples = prior_samples(prior, sampling_grid(0.002, 80.0), (1, SIDE, SIDE), noise).double()
    centred = (samples - mean).flatten(1) @ basis
    # Four standard errors of a mean, and of a variance: sqrt(2 / n); the steps make the variance 4 % too large.
    assert bool((centred.mean(0).abs() < 4 * (variances / n).sqrt() + 0.002).all())
    torch.testing.assert_close(
        centred.var(0) / variances, torch.ones(SIDE**2).double(), atol=0.04 + 4 * math.sqrt(2 / n), rtol=0
    )


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    prior, grid = GaussianDenoiser(torch.zeros(SIDE, SIDE), torch.eye(SIDE**2)), sampling_grid(0.01, 10.0)
    together = prior_samples(prior, grid, (1, SIDE, SIDE), Noise(0, ["a", "b"]))
    torch.testing.assert_close(together[1:], prior_samples(prior, grid, (1, SIDE, SIDE), Noise(0, ["b"])))


@pytest.mark.parametrize("validation", [(), (0.1, 0.5)])
@pytest.mark.parametrize("n_rows", [0, 3])
def test_curves_hold_every_row(n_rows: int, validation: tuple[float, ...]) -> None:
    rows = [
        CurveRow(
            images_seen=10 * i,
            loss=1 / i,
            learning_rate=1.0,
            seconds=1.0,
            sigmas=(0.2, 2.0),
            validation_rmse=validation,
        )
        for i in range(1, n_rows + 1)
    ]
    loss, errors = curve_figure(rows).axes
    assert list(loss.lines[0].get_ydata()) == [1 / i for i in range(1, n_rows + 1)]
    assert [list(line.get_xdata()) for line in errors.lines] == [[10, 20, 30]] * (len(validation) if rows else 0)


def test_every_sample_has_its_place() -> None:
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    axes = [axis for axis in samples_figure(images).axes if axis.images]
    assert len(axes) == 5
    assert all((axis.images[0].get_array() == images[i, 0].numpy()).all() for i, axis in enumerate(axes))
