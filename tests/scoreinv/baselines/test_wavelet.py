import pytest
import pywt
import torch

from scoreinv.baselines.wavelet import Wavelet, shrink, undecimated
from scoreinv.noise import Noise
from scoreinv.operators.ct import SparseViewCT
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.mri import CartesianMRI
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct, run

SIZE = 32
each_family = pytest.mark.parametrize("family", ["haar", "db2", "db4", "sym4", "sym8"])


def random_images(*size: int) -> torch.Tensor:
    return torch.rand(2, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def phantom() -> torch.Tensor:
    return torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()[None, None]


def shrink_in_one_grid(v: torch.Tensor, weight: float, family: str, n_scales: int) -> torch.Tensor:
    """argmin_x 1/2 |x - v|^2 + weight |W x|_1 for the orthogonal W of PyWavelets."""
    options = {"mode": "periodization", "axes": (-2, -1)}
    approximation, *scales = pywt.wavedec2(v.numpy(), family, level=n_scales, **options)
    kept = [tuple(pywt.threshold(details, weight, "soft") for details in scale) for scale in scales]
    return torch.from_numpy(pywt.waverec2([approximation, *kept], family, **options))


@pytest.mark.filterwarnings("ignore:Level value")
@each_family
def test_shrinking_is_the_mean_over_all_shifts_of_an_orthogonal_one(family):
    """With filters longer than the image as well, which wrap around."""
    v, n_scales = random_images(8, 16), 2
    responses = undecimated(8, 16, family=family, n_scales=n_scales).to(torch.complex128)
    every_shift = [(i, j) for i in range(2**n_scales) for j in range(2**n_scales)]
    shifted = [
        shrink_in_one_grid(v.roll(s, (-2, -1)), 0.2, family, n_scales).roll((-s[0], -s[1]), (-2, -1))
        for s in every_shift
    ]
    x = shrink(v, 0.2, responses=responses)
    torch.testing.assert_close(x, torch.stack(shifted).mean(0), atol=1e-6, rtol=0)
    assert float((x - v).abs().max()) > 0.05
    assert float((x - shifted[0]).abs().max()) > 0.02


@each_family
@pytest.mark.parametrize("size", [(32, 32), (17, 30), (5, 5)])
def test_the_adjoint_is_the_inverse_for_every_image_size(family, size):
    responses = undecimated(*size, family=family, n_scales=4)
    torch.testing.assert_close(responses.abs().square().sum(0), torch.ones(responses.shape[1:]))
    v = random_images(*size).float()
    torch.testing.assert_close(shrink(v, 0.0, responses=responses), v)


def test_the_mean_of_an_image_is_kept():
    v = random_images(16, 16).float()
    x = shrink(v, 10.0, responses=undecimated(16, 16, family="db2", n_scales=4))
    torch.testing.assert_close(x, v.mean((-2, -1), keepdim=True).expand(v.shape))


class Identity(LinearOperator):
    image_shape = (1, SIZE, SIZE)
    data_shape = (1, SIZE, SIZE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_the_mean_over_all_shifts_leaves_fewer_blocks_than_one_grid():
    truth = phantom()
    noisy = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    method = Wavelet(weight=0.15, family="haar", n_iters=3)
    x = reconstruct(method, InverseProblem(Identity(), noisy), noise=Noise(0, ["0"])).x
    one_grid = shrink_in_one_grid(noisy, 0.15, "haar", 4).clamp_min(0)
    error, of_one_grid, of_noisy = (float((image - truth).square().mean()) for image in (x, one_grid, noisy))
    assert error < 0.8 * of_one_grid
    assert of_one_grid < of_noisy


@pytest.mark.parametrize(
    ("measurement", "share"),
    [(CartesianMRI(acceleration=4), 0.35), (SparseViewCT(n_views=11, n_full=48), 0.2)],
    ids=["mri", "ct"],
)
def test_a_phantom_comes_back_far_better_than_directly(measurement, share: float):
    operator, truth = measurement.operator(SIZE), phantom()
    problem = InverseProblem(operator, operator.forward(truth))
    steps = list(run(Wavelet(weight=3e-4), problem, noise=Noise(0, ["0"])))
    direct = (operator.direct(problem.y) - truth).square().mean()
    assert float((steps[-1].x - truth).square().mean()) < share * float(direct)
    assert problem.residual(steps[-1].x).norm() < 0.2 * problem.residual(steps[0].x).norm()
    assert float(steps[-1].x.min()) >= 0


def test_more_weight_means_fewer_wavelets():
    operator = SparseViewCT(n_views=7).operator(SIZE)
    problem = InverseProblem(operator, operator.forward(phantom()))
    responses = undecimated(SIZE, SIZE, family="haar", n_scales=4)[1:]
    results = [reconstruct(Wavelet(weight=w), problem, noise=Noise(0, ["0"])).x for w in (1e-4, 1e-3, 1e-2)]
    sums = [float(torch.fft.irfft2(torch.fft.rfft2(x) * responses).abs().sum()) for x in results]
    assert sums == sorted(sums, reverse=True)
    assert sums[2] < 0.7 * sums[0]


def test_the_iterates_settle():
    operator = SparseViewCT(n_views=7).operator(SIZE)
    problem = InverseProblem(operator, operator.forward(phantom()))
    images = [step.x for step in run(Wavelet(weight=1e-3, n_iters=400), problem, noise=Noise(0, ["0"]))]
    assert float((images[-1] - images[-2]).abs().max()) < 1e-4
    assert float((images[-1] - images[199]).norm() / images[-1].norm()) < 0.01
