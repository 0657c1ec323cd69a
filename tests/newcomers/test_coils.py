"""What a newcomer writes for measured MRI: two coils, complex images, sensitivities of each slice.

All of it is here, on the public interfaces; nothing in the library knows of coils.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from scoreinv.baselines import TotalVariation
from scoreinv.contract import ImageContract, Modality
from scoreinv.measurement import NO_CONTEXT, Context, GaussianNoise, Measured, MeasurementSpec, simulate
from scoreinv.metrics.image import psnr
from scoreinv.noise import Noise
from scoreinv.operators.fourier import as_channels, as_complex, fft2c, ifft2c
from scoreinv.operators.linear import LinearOperator
from scoreinv.operators.masks import equispaced_mask
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, Method, reconstruct
from scoreinv.samplers import DDS, DPIR
from scoreinv.samplers.grid import SigmaGrid
from tests.contracts import check_gradients, check_linear

SIZE = 32
IMAGE = ImageContract(modality="mri", size=SIZE, pixel_mm=5.0, low=0, high=1, n_channels=2)


class CoilMRI(MeasurementSpec):
    """Undersampled columns, seen by two coils whose sensitivities differ from slice to slice."""

    kind: Literal["coil_mri"] = "coil_mri"

    @property
    def modality(self) -> Modality:
        return "mri"

    def title(self) -> str:
        return "Two coils"

    def context(self, size: int, noise: Noise) -> Context:
        axis = torch.linspace(-1, 1, size).expand(size, -1)
        tilt = 0.5 + 0.1 * noise.normal((1, 1))
        maps = torch.stack([torch.sigmoid(tilt * 3 * axis), torch.sigmoid(-tilt * 3 * axis)], 1)
        return {"sens_maps": (maps / maps.square().sum(1, keepdim=True).sqrt()).to(torch.complex64)}

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 2) -> "CoilOperator":
        return CoilOperator(context["sens_maps"], equispaced_mask(size, size // 2, n_acs=6))


class CoilOperator(LinearOperator):
    """y = mask F (sens_maps x): complex images to k-space (batch, n_coils, H, W)."""

    is_complex = True
    per_image: ClassVar[tuple[str, ...]] = ("sens_maps",)

    def __init__(self, sens_maps: Tensor, mask: Tensor) -> None:
        self.sens_maps, self.mask = sens_maps, mask
        self.image_shape, self.data_shape = (2, *sens_maps.shape[-2:]), tuple(sens_maps.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return fft2c(self.sens_maps * as_complex(x)) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        return as_channels((self.sens_maps.conj() * ifft2c(y * self.mask)).sum(1, keepdim=True), 2)


def images(n: int) -> Tensor:
    """Heads with a phase that varies over the image."""
    head = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()
    phase = torch.linspace(0, 2, SIZE)
    return torch.stack([torch.stack([head * phase.cos(), head * phase.sin()]).roll(i, -1) for i in range(n)])


def measured(n: int) -> tuple[CoilMRI, Measured]:
    spec = CoilMRI(noise=GaussianNoise(noise_std=0.002))
    return spec, simulate(spec, images(n), IMAGE, Noise(0, [str(i) for i in range(n)]))


def solved(method: Method, n: int, places: list[int]) -> Tensor:
    spec, data = measured(n)
    problem = InverseProblem.of(spec, data, IMAGE).part(torch.tensor(places))
    noise = Noise(0, [str(place) for place in places])
    return reconstruct(method, problem, lambda x, sigma: 0.98 * x, noise=noise).x


def test_the_operator_keeps_the_promises_of_the_library() -> None:
    spec, data = measured(2)
    operator = spec.operator(SIZE, {"sens_maps": data.context["sens_maps"].to(torch.complex128)})
    check_linear(operator, torch.float64)
    check_gradients(operator, torch.float64, 1e-6)
    assert data.y.shape == (2, 2, SIZE, SIZE)


def test_total_variation_finds_complex_images_from_half_of_k_space() -> None:
    x = solved(TotalVariation(weight=1e-4, n_iters=100), 2, [0, 1])
    spec, data = measured(2)
    direct = InverseProblem.of(spec, data, IMAGE).operator.direct(data.y)
    ours, naive = (psnr(one, images(2), data_range=1.0) for one in (x, direct))
    assert bool((ours > naive + 8).all())
    assert float((x - images(2)).square().mean()) < 1e-3  # the phase, too


def test_every_slice_has_its_own_sensitivities_whatever_its_neighbours() -> None:
    grid = SigmaGrid(n_levels=5, sigma_max=0.2, sigma_min=0.01)
    for method in (DDS(grid=grid), DPIR(grid=grid), TotalVariation(n_iters=5)):
        together, alone = solved(method, 3, [0, 1, 2, 1]), solved(method, 3, [1])
        torch.testing.assert_close(together[1], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together[1], together[3], rtol=1e-4, atol=1e-5)
