"""What a newcomer writes for a mask that differs from slice to slice, through stores and workers.

All of it is here, on the public interfaces; nothing in the library is touched for it.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from scoreinv.baselines import TotalVariation
from scoreinv.contract import ImageContract, Modality
from scoreinv.measurement import NO_CONTEXT, Context, MeasurementSpec, simulate
from scoreinv.noise import Noise
from scoreinv.operators.fourier import fft2c, ifft2c
from scoreinv.operators.linear import LinearOperator
from scoreinv.phantoms import SHEPP_LOGAN, rasterise
from scoreinv.problem import InverseProblem, reconstruct
from tests.contracts import check_gradients, check_linear

SIZE = 32
IMAGE = ImageContract(modality="mri", size=SIZE, pixel_mm=5.0, low=0, high=1)


class ScatteredMRI(MeasurementSpec):
    """Single entries of k-space, drawn anew for each slice."""

    kind: Literal["scattered_mri"] = "scattered_mri"
    share: float = 0.4

    @property
    def modality(self) -> Modality:
        return "mri"

    def title(self) -> str:
        return f"{self.share:.0%} of k-space, drawn for each slice"

    def context(self, size: int, noise: Noise) -> Context:
        axis = torch.linspace(-1, 1, size)
        is_centre = (axis[:, None] ** 2 + axis**2) < 0.05
        is_drawn = torch.special.ndtr(noise.normal((1, size, size))) < self.share
        return {"mask": is_drawn | is_centre}

    def operator(self, size: int, context: Context = NO_CONTEXT, *, n_channels: int = 1) -> "MaskedFourier":
        return MaskedFourier(context["mask"])


class MaskedFourier(LinearOperator):
    """y = mask F x with a mask (batch, 1, H, W)."""

    is_complex = True
    per_image: ClassVar[tuple[str, ...]] = ("mask",)

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.image_shape = self.data_shape = tuple(mask.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return fft2c(x) * self.mask

    def adjoint(self, y: Tensor) -> Tensor:
        return ifft2c(y * self.mask).real


def problem(n: int) -> tuple[InverseProblem, Tensor]:
    spec = ScatteredMRI()
    head = torch.from_numpy(rasterise(SHEPP_LOGAN, SIZE)).float()
    images = torch.stack([head.roll(i, -1)[None] for i in range(n)])
    data = simulate(spec, images, IMAGE, Noise(0, [str(i) for i in range(n)]))
    return InverseProblem.of(spec, data, IMAGE), images


def test_the_operator_keeps_the_promises_of_the_library() -> None:
    operator = problem(2)[0].operator
    check_linear(operator, torch.float64)
    check_gradients(operator, torch.float64, 1e-6)
    assert not torch.equal(operator.mask[0], operator.mask[1])


def test_every_slice_is_found_by_its_own_mask() -> None:
    case, images = problem(3)
    tv = TotalVariation(weight=1e-4, n_iters=100)
    x = reconstruct(tv, case, noise=Noise(0, ["0", "1", "2"])).x
    assert float((x - images).square().mean((1, 2, 3)).max()) < 0.02 * float(images.square().mean())
    alone = reconstruct(tv, case.part(torch.tensor([2])), noise=Noise(0, ["2"])).x
    torch.testing.assert_close(alone[0], x[2], rtol=1e-4, atol=1e-5)
    wrong = InverseProblem(case.operator.part(torch.tensor([1, 2, 0])), case.y)
    assert float((reconstruct(tv, wrong, noise=Noise(0, ["0", "1", "2"])).x - images).square().mean()) > 0.005
