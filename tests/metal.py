"""Small slices with metal in them: bodies of soft tissue with bone, lung and fat, and their data."""

import torch

from scoreinv.contract import ImageContract
from scoreinv.measurement import Measured, simulate
from scoreinv.noise import Noise
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.phantoms import Ellipse, rasterise

SIZE = 64
IMAGE = ImageContract(modality="ct", size=SIZE, pixel_mm=3.0, low=-1000.0, high=1000.0)
NAMES = ["a", "b", "c"]


def bodies() -> torch.Tensor:
    """Three bodies (3, 1, 64, 64), 150 mm wide: values of 0 are air, 0.5 is water."""
    return torch.stack([torch.from_numpy(rasterise(_body(shift), SIZE)) for shift in (0.0, 0.1, -0.15)])[:, None]


def _body(shift: float) -> tuple[Ellipse, ...]:
    return (
        Ellipse(0.45, 0.78, 0.62),
        Ellipse(0.07, 0.72, 0.55),
        Ellipse(-0.4, 0.2, 0.14, -0.3, 0.25 + shift),
        Ellipse(0.25, 0.24, 0.2, 0.1 + shift, -0.2),
        Ellipse(0.2, 0.12, 0.1, -0.4, -0.1),
        Ellipse(0.03, 0.2, 0.15, 0.35, 0.2),
    )


def data(spec: MetalCT) -> Measured:
    """The data of all three."""
    return simulate(spec, bodies(), IMAGE, Noise(0, NAMES))
