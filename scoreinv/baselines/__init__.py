"""Baselines: methods without a prior, one file each."""

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.tv import TotalVariation
from scoreinv.baselines.wavelet import Wavelet

__all__ = ["Direct", "TotalVariation", "Wavelet"]
