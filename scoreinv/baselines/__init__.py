"""Baselines: methods without a prior, one file each; one calls a network that knows the measurement."""

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.learned import Learned
from scoreinv.baselines.linear_interpolation import LinearInterpolation
from scoreinv.baselines.nmar import NMAR
from scoreinv.baselines.tv import TotalVariation
from scoreinv.baselines.wavelet import Wavelet

__all__ = ["NMAR", "Direct", "Learned", "LinearInterpolation", "TotalVariation", "Wavelet"]
