"""Every method there is: samplers and baselines behind one interface."""

from typing import Annotated

from pydantic import Field

from scoreinv.baselines.direct import Direct
from scoreinv.baselines.tv import TotalVariation
from scoreinv.samplers.dds import DDS
from scoreinv.samplers.predictor_corrector import PredictorCorrector
from scoreinv.samplers.projection import Projection

AnyMethod = Annotated[Direct | TotalVariation | DDS | Projection | PredictorCorrector, Field(discriminator="kind")]
