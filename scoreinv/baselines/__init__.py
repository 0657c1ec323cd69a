"""Baselines: methods without a prior, one file each."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.tv import TotalVariation

AnyBaseline = Annotated[Direct | TotalVariation, Field(discriminator="kind")]

__all__ = ["AnyBaseline", "Direct", "TotalVariation"]
