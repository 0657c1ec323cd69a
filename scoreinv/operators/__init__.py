"""Measurement operators, and the union of everything that can be measured."""

from typing import Annotated

from pydantic import Field

from scoreinv.operators.ct import LimitedAngleCT, SparseViewCT
from scoreinv.operators.metal_ct import MetalCT
from scoreinv.operators.mri import CartesianMRI

AnyMeasurement = Annotated[CartesianMRI | SparseViewCT | LimitedAngleCT | MetalCT, Field(discriminator="kind")]
