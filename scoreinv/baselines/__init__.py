"""Baselines: methods without a prior, one file each."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.tv import TotalVariation
from scoreinv.baselines.wavelet import Wavelet

AnyBaseline = Annotated[Direct | TotalVariation | Wavelet, Field(discriminator="kind")]

__all__ = ["AnyBaseline", "Direct", "TotalVariation", "Wavelet"]
