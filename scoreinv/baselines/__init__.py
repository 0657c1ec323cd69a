"""Baselines: methods without a prior, one file each; one calls a network that knows the measurement."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.learned import Learned
from scoreinv.baselines.tv import TotalVariation
from scoreinv.baselines.wavelet import Wavelet

AnyBaseline = Annotated[Direct | TotalVariation | Wavelet | Learned, Field(discriminator="kind")]

__all__ = ["AnyBaseline", "Direct", "Learned", "TotalVariation", "Wavelet"]
