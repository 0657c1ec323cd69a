"""Networks: one file per family."""

from typing import Annotated

from pydantic import Field

from scoreinv.nets.ncsnpp import NCSNpp
from scoreinv.nets.unet import UNet

AnyNetwork = Annotated[UNet | NCSNpp, Field(discriminator="kind")]

__all__ = ["AnyNetwork", "NCSNpp", "UNet"]
