"""Samplers: one file per method."""

from typing import Annotated

from pydantic import Field

from scoreinv.samplers.dds import DDS
from scoreinv.samplers.predictor_corrector import PredictorCorrector
from scoreinv.samplers.projection import Projection

AnySampler = Annotated[DDS | Projection | PredictorCorrector, Field(discriminator="kind")]

__all__ = ["DDS", "AnySampler", "PredictorCorrector", "Projection"]
