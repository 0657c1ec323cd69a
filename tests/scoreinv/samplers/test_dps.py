import pytest
import torch
from torch import Tensor

from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.mri import CartesianMRI
from scoreinv.problem import InverseProblem, reconstruct
from scoreinv.samplers import DPS
from scoreinv.samplers.dps import count_measured
from scoreinv.samplers.grid import SigmaGrid
from tests.scoreinv.samplers.gaussians import SIZE, BatchNoise, compare, stationary_prior, varying_prior

MRI = CartesianMRI(acceleration=2)
CT = SparseViewCT(n_views=5, n_full=12)
GRID = SigmaGrid(n_levels=300, sigma_max=1.0, sigma_min=0.005)


@pytest.mark.parametrize(
    ("measurement", "prior", "mean_measured", "mean_unmeasured", "variance_measured", "variance_unmeasured"),
    [
        (MRI, stationary_prior(), 0.15, 0.05, 0.99, 0.96),
        (MRI, varying_prior(), 0.17, 0.06, 0.86, 0.85),
        (CT, stationary_prior(), 0.38, 0.66, 0.94, 1.41),
        (CT, varying_prior(), 0.23, 0.19, 1.20, 1.03),
    ],
    ids=["mri-stationary", "mri-varying", "ct-stationary", "ct-varying"],
)
def test_dps_is_near_the_posterior_where_plain_gradients_are_fast(
    measurement, prior, mean_measured, mean_unmeasured, variance_measured, variance_unmeasured
):
    """Gradient steps reach what A sees strongly: all of MRI, the smooth part in CT, whose fine part stays behind.

    The bound on residuals at the noise gives samples about the right spread; plain DPS fits the noise.
    """
    errors = compare(DPS(grid=GRID), measurement.operator(SIZE), prior, noise_std=0.02, n=400)
    # 400 samples: a mean scatters by 0.05 posterior deviations, the mean of 20 or more variances by about 0.02.
    assert errors.mean_measured == pytest.approx(mean_measured, abs=0.08)
    assert errors.mean_unmeasured == pytest.approx(mean_unmeasured, abs=0.08)
    assert errors.variance_measured == pytest.approx(variance_measured, abs=0.1)
    assert errors.variance_unmeasured == pytest.approx(variance_unmeasured, abs=0.1)


class Scaled(LinearOperator):
    """Another operator in other units."""

    def __init__(self, inner: LinearOperator, factor: float) -> None:
        self.inner, self.factor = inner, factor
        self.image_shape, self.data_shape = inner.image_shape, inner.data_shape

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.inner.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.factor * self.inner.adjoint(y)

    def direct(self, y: Tensor) -> Tensor:
        return self.inner.direct(y / self.factor)


def solve(operator: LinearOperator, y: Tensor, *, zeta: float = 3.0, noise_std: float = 0.0) -> Tensor:
    method = DPS(grid=SigmaGrid(n_levels=60, sigma_max=1.0), zeta=zeta)
    return reconstruct(method, InverseProblem(operator, y, noise_std), varying_prior(), noise=BatchNoise(len(y))).x


def images(n: int = 4) -> Tensor:
    return varying_prior().sample(BatchNoise(n, seed=7).normal((1, SIZE, SIZE)).double()).float()


@pytest.mark.parametrize("noise_std", [0.0, 0.05])
@pytest.mark.parametrize("zeta", [0.1, 3.0])
def test_units_of_the_data_make_no_difference(zeta: float, noise_std: float):
    operator = CT.operator(SIZE)
    y = operator.forward(images())
    plain = solve(operator, y, zeta=zeta, noise_std=noise_std)
    scaled = solve(Scaled(operator, 1000.0), 1000 * y, zeta=zeta, noise_std=1000 * noise_std)
    torch.testing.assert_close(scaled, plain, rtol=1e-3, atol=1e-3)
    assert float((solve(operator, y, zeta=0.0) - plain).abs().max()) > 0.05


def test_a_large_zeta_neither_diverges_nor_leaves_jitter():
    operator = CT.operator(SIZE)
    y = operator.forward(images())
    usual, large = (solve(operator, y, zeta=zeta) for zeta in (3.0, 1e4))
    error = [float((x - images()).square().mean()) for x in (usual, large)]
    assert error[1] < 1.1 * error[0]


def test_a_residual_no_longer_than_the_noise_is_left_alone():
    operator = MRI.operator(SIZE)
    y = operator.forward(images())
    torch.testing.assert_close(solve(operator, y, noise_std=100.0), solve(operator, y, zeta=0.0))


def test_noiseless_mri_data_are_met_and_noisy_ones_to_the_length_of_the_noise():
    operator = MRI.operator(SIZE)
    y = operator.forward(images())
    # The noise of the last level, 0.01, is not wholly gone where only a frequency's mirror is measured.
    assert float((operator.forward(solve(operator, y)) - y).abs().max()) < 0.02
    noisy = y + 0.05 * BatchNoise(len(y), seed=9).normal_like(y) * operator.mask
    residual = torch.view_as_real(operator.forward(solve(operator, noisy, noise_std=0.05)) - noisy)
    energy = residual.square().flatten(1).sum(1) / (0.05**2 * count_measured(noisy).flatten())
    assert float(energy.min()) > 0.4
    assert float(energy.max()) < 1.3


def test_only_acquired_numbers_count_as_measured():
    operator = MRI.operator(SIZE)
    y = BatchNoise(2).normal_like(operator.forward(images(2))) * operator.mask
    assert count_measured(y).flatten().tolist() == [2 * int(operator.mask.sum())] * 2
    assert count_measured(torch.tensor([[[1.0, 0.0], [2.0, 3.0]]])).shape == (1, 1, 1)
