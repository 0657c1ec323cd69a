"""Baselines: methods without a prior, one file each; one calls a network that knows the measurement."""

from scoreinv.baselines.cgls import CGLS
from scoreinv.baselines.direct import Direct
from scoreinv.baselines.external import External
from scoreinv.baselines.learned import Learned
from scoreinv.baselines.linear_interpolation import LinearInterpolation
from scoreinv.baselines.nmar import NMAR
from scoreinv.baselines.tv import TotalVariation
from scoreinv.baselines.wavelet import Wavelet

__all__ = [
    "CGLS",
    "NMAR",
    "Direct",
    "External",
    "Learned",
    "LinearInterpolation",
    "TotalVariation",
    "Wavelet",
]
